//! Deletions, and the content that is left.

use serde_json::json;

use super::manifests::all_types;
use crate::{
    content::{
        ABSENT, DOCKER_MANIFEST, LAYER, LOOSE, digest, digest512, docker_image, docker_list,
        oci_image, with,
    },
    step::{Step, delete, get, head, put},
};

pub(super) fn steps() -> Vec<Step> {
    let all = all_types();
    let manifest = |reference: &str| format!("/v2/app/manifests/{reference}");
    let docker = digest(docker_image().to_string());
    let doomed = with(docker_image(), json!({ "layers": [] })).to_string();
    let of_doomed = digest(&doomed);
    let loose = format!("/v2/app/blobs/{}", digest(LOOSE));
    vec![
        // Blobs.
        delete("a blob", &loose),
        get("a deleted blob", &loose),
        head("a deleted blob, head", &loose),
        delete("a blob again", &loose),
        get("it in another repository", format!("/v2/loose/blobs/{}", digest(LOOSE))),
        delete("an unknown blob", format!("/v2/app/blobs/{}", digest(ABSENT))),
        delete("an unknown blob by sha512", format!("/v2/app/blobs/{}", digest512(ABSENT))),
        delete("a blob of an unknown repository", format!("/v2/unknown/blobs/{}", digest(LAYER))),
        delete("a blob with a malformed digest", "/v2/app/blobs/sha256:abc"),
        delete("a blob with a body", format!("/v2/loose/blobs/{}", digest(LOOSE))).body("why"),
        // Manifests.
        put("push one with two tags", manifest("doomed"))
            .header("Content-Type", DOCKER_MANIFEST)
            .body(doomed.clone()),
        put("push its second tag", manifest("doomed-too"))
            .header("Content-Type", DOCKER_MANIFEST)
            .body(doomed),
        delete("a manifest", manifest(&of_doomed)),
        get("a deleted manifest", manifest(&of_doomed)).header("Accept", &all),
        get("a deleted manifest by its tag", manifest("doomed")).header("Accept", &all),
        head("a deleted manifest by its other tag", manifest("doomed-too")).header("Accept", &all),
        get("tags behind it", "/v2/app/tags/list"),
        delete("a manifest again", manifest(&of_doomed)),
        delete("an unknown manifest", manifest(&digest(ABSENT))),
        delete("a manifest with a malformed digest", manifest("sha256:abc")),
        delete("a manifest of an unknown repository", format!("/v2/unknown/manifests/{docker}")),
        delete("a manifest in a malformed name", format!("/v2/App/manifests/{docker}")),
        delete("a list", manifest(&digest(docker_list().to_string()))),
        get("what it listed", manifest("docker")).header("Accept", &all),
        // Tags.
        delete("a tag", manifest("v1.0_x-y")),
        delete("an unknown tag", manifest("unknown")),
        delete("a malformed tag", manifest("-bad")),
        delete("a tag of an unknown repository", "/v2/unknown/manifests/latest"),
        get("the manifest of a deleted tag", manifest(&docker)).header("Accept", &all),
        // The rest of a repository.
        delete("the last manifest", format!("/v2/team/app/manifests/{docker}")),
        get("tags of an emptied repository", "/v2/team/app/tags/list"),
        get("a manifest of an emptied repository", "/v2/team/app/manifests/latest")
            .header("Accept", &all),
        get("the blob of an emptied repository", format!("/v2/team/app/blobs/{}", digest(LAYER))),
        get("the catalog with an emptied repository", "/v2/_catalog"),
        get("OCI's image is still there", manifest(&digest(oci_image().to_string())))
            .header("Accept", &all),
        // Repositories.
        delete("a repository", "/v2/loose/"),
        delete("a repository again", "/v2/loose/"),
        delete("a repository without the slash", "/v2/team/app"),
        delete("a repository by a malformed name", "/v2/Loose/"),
        // Last, since registry:2 breaks the image.
        delete("a needed blob", format!("/v2/app/blobs/{}", digest(LAYER))),
    ]
}
