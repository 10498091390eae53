//! The intended differences between the responses of Portcullis and registry:2, with reasons. The
//! same table, with more words, is in docs/MIGRATING.md.

use crate::compare::Difference;

/// One intended difference.
pub(crate) struct Deviation {
    /// The first column of its row in docs/MIGRATING.md.
    pub(crate) title: &'static str,
    /// The last column.
    pub(crate) reason: &'static str,
    /// The steps and fields in which it shows.
    pub(crate) differences: &'static [Expected],
}

/// Differences that are expected. In each part `*` stands for anything.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The names of the steps, several of them between `|`.
    steps: &'static str,
    field: &'static str,
    theirs: &'static str,
    ours: &'static str,
}

impl Deviation {
    /// Whether a difference is one of these.
    pub(crate) fn covers(&self, difference: &Difference) -> bool {
        self.differences.iter().any(|expected| expected.covers(difference))
    }
}

impl Expected {
    /// Whether a difference is one of these.
    pub(crate) fn covers(&self, difference: &Difference) -> bool {
        let Difference { step, field, theirs, ours, .. } = difference;
        self.steps.split('|').any(|steps| matches(steps.trim(), step))
            && matches(self.field, field)
            && matches(self.theirs, theirs)
            && matches(self.ours, ours)
    }
}

/// Whether a text matches a pattern.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

const fn expected(
    steps: &'static str,
    field: &'static str,
    theirs: &'static str,
    ours: &'static str,
) -> Expected {
    Expected { steps, field, theirs, ours }
}

/// All intended differences, in the order of docs/MIGRATING.md.
pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        title: "the media type of JSON",
        reason: "JSON has no charset (RFC 8259 §11), and registry:3 leaves it out as well.",
        differences: &[expected(
            "*",
            "content-type",
            "application/json; charset=utf-8",
            "application/json",
        )],
    },
    Deviation {
        title: "`http.headers`, and the API version header",
        reason: "A security header must not be missing on any response.",
        differences: &[
            expected("*", "x-of-the-file", "–", "one, two"),
            expected("*", "x-content-type-options", "–", "nosniff"),
            expected("*", "content-security-policy", "–", "sandbox; default-src 'none'"),
            expected("*", "cross-origin-resource-policy", "–", "same-origin"),
            expected("*", "docker-distribution-api-version", "–", "registry/2.0"),
        ],
    },
    Deviation {
        title: "the `detail` of errors",
        reason: "The specification leaves it open, and a sentence tells the user what was wrong.",
        differences: &[expected("*", "detail", "*", "*")],
    },
    Deviation {
        title: "the challenge of 401",
        reason: "RFC 7617 §2.1 defines it for passwords that are not ASCII.",
        differences: &[expected(
            "gate: *|chunks: *, without credentials|blobs: without credentials, *|*: without credentials: *",
            "www-authenticate",
            "Basic realm=\"A \\\"quoted\\\" realm\"",
            "Basic realm=\"A \\\"quoted\\\" realm\", charset=\"UTF-8\"",
        )],
    },
    Deviation {
        title: "several spaces after `Basic`",
        reason: "RFC 9110 §11.4 allows them.",
        differences: &[expected(
            "gate: two spaces behind the scheme",
            "outcome",
            "401 UNAUTHORIZED",
            "200",
        )],
    },
    Deviation {
        title: "several `Authorization` headers",
        reason: "RFC 9110 §11.6.2 allows one, and a proxy in front may have used another one.",
        differences: &[expected(
            "gate: two headers, the first right",
            "outcome",
            "200",
            "401 UNAUTHORIZED",
        )],
    },
    Deviation {
        title: "paths that do not exist, without a password",
        reason: "An unauthenticated client learns nothing, not even which paths exist.",
        differences: &[expected(
            "gate: without credentials: *",
            "outcome",
            "404",
            "401 UNAUTHORIZED",
        )],
    },
    Deviation {
        title: "methods that an endpoint does not have",
        reason: "The specification has a code for it, and RFC 9110 §15.5.6 requires a correct `Allow`.",
        differences: &[
            expected("*", "outcome", "405", "405 UNSUPPORTED"),
            expected("version: *|methods: *", "outcome", "200", "405 UNSUPPORTED"),
            expected("uploads: *", "outcome", "404 BLOB_UPLOAD_UNKNOWN", "405 UNSUPPORTED"),
            expected(
                "sessions: post to an upload|methods: *",
                "outcome",
                "404 BLOB_UPLOAD_INVALID",
                "405 UNSUPPORTED",
            ),
        ],
    },
    Deviation {
        title: "`OPTIONS`",
        reason: "The methods belong to the path, whether or not the object exists (RFC 9110 §9.3.7).",
        differences: &[
            expected("version: options", "*", "*", "*"),
            expected(
                "sessions: options of an upload|methods: OPTIONS an upload",
                "outcome",
                "404 BLOB_UPLOAD_INVALID",
                "200",
            ),
            expected(
                "tags: options|catalog: options|methods: OPTIONS *",
                "allow",
                "GET",
                "GET, HEAD",
            ),
            expected(
                "methods: OPTIONS uploads",
                "allow",
                "DELETE, GET, HEAD, PATCH, POST, PUT",
                "POST",
            ),
            expected("methods: OPTIONS the root*", "allow", "–", "GET, HEAD"),
            expected("methods: OPTIONS the root*", "cache-control", "no-cache", "–"),
            expected(
                "methods: OPTIONS the server*",
                "allow",
                "–",
                "DELETE, GET, HEAD, PATCH, POST, PUT",
            ),
        ],
    },
    Deviation {
        title: "CORS preflight requests",
        reason: "nginx answered in this way, and pages that show a registry need it.",
        differences: &[expected(
            "methods: preflight of *|gate: without credentials: a browser that asks first",
            "outcome",
            "*",
            "204",
        )],
    },
    Deviation {
        title: "writes from pages of other sites (`Sec-Fetch-Site: cross-site`)",
        reason: "The browser sends the user's password along.",
        differences: &[expected(
            "gate: begin an upload for a page of another site",
            "outcome",
            "202",
            "403 DENIED",
        )],
    },
    Deviation {
        title: "forwarding headers of a proxy that is not trusted",
        reason: "A client must not choose the URLs that other clients get.",
        differences: &[expected(
            "paths: an upload behind another *",
            "location",
            "http*/v2/app/blobs/uploads/*",
            "/v2/app/blobs/uploads/*",
        )],
    },
    Deviation {
        title: "`HEAD` of lists",
        reason: "RFC 9110 §9.1 requires `HEAD` wherever `GET` works.",
        differences: &[
            expected("tags: head|catalog: head", "outcome", "405", "200"),
            expected("tags: of an unknown name, head", "outcome", "405", "404"),
        ],
    },
    Deviation {
        title: "repeated slashes, dots and escapes in paths",
        reason: "The path is judged as it was sent, as a proxy in front may have judged it.",
        differences: &[
            expected(
                "version: *|*: a slash behind it|manifests: of a tag and a slash*|paths: a star",
                "outcome",
                "301",
                "404",
            ),
            expected("paths: *", "outcome", "301", "400 NAME_INVALID"),
            expected(
                "sessions: an id that leads away",
                "outcome",
                "301",
                "404 BLOB_UPLOAD_UNKNOWN",
            ),
            expected(
                "paths: a slash of the endpoint that is escaped|paths: an escaped version",
                "outcome",
                "200",
                "404",
            ),
        ],
    },
    Deviation {
        title: "the slash after `uploads`",
        reason: "A client that follows the redirect comes back with `GET`.",
        differences: &[expected("uploads: begin without the slash", "outcome", "301", "202")],
    },
    Deviation {
        title: "the body of a redirect, and of `/`",
        reason: "No client of a registry reads it; a person who opens `/` in a browser does.",
        differences: &[
            expected("*without the slash", "content-type", "text/html; charset=utf-8", "–"),
            expected("*without the slash", "body", "<a href=\"/v2/\">Moved Permanently</a>.*", ""),
            expected("version: head without the slash", "content-length", "–", "0"),
            expected("version: the root*", "content-type", "–", "text/plain; charset=utf-8"),
            expected("version: the root*", "content-length", "*", "*"),
            expected("version: the root*", "body", "", "This is a container registry *"),
        ],
    },
    Deviation {
        title: "malformed names, tags and digests",
        reason: "The specification has codes for them, which clients show.",
        differences: &[
            expected("*", "outcome", "404", "400 NAME_INVALID"),
            expected("paths: *", "outcome", "400", "400 NAME_INVALID"),
            expected(
                "tags: too long a name|paths: *",
                "outcome",
                "500 UNKNOWN",
                "400 NAME_INVALID",
            ),
            expected("bad pushes: *", "outcome", "404", "400 TAG_INVALID"),
            expected("*", "outcome", "404", "400 DIGEST_INVALID"),
            expected("bad pushes: *|manifests: *", "outcome", "500 UNKNOWN", "400 DIGEST_INVALID"),
            expected("manifests: *, head", "outcome", "500", "400"),
            expected(
                "manifests: *|paths: *|deletions: *",
                "outcome",
                "404",
                "404 MANIFEST_UNKNOWN",
            ),
            expected(
                "manifests: *, head",
                "content-type",
                "text/plain; charset=utf-8",
                "application/json",
            ),
        ],
    },
    Deviation {
        title: "`/v1/_ping` and `/v1/search`",
        reason: "`docker search` needs them.",
        differences: &[expected(
            "version: version 1, ping|version: version 1, search",
            "outcome",
            "404",
            "200",
        )],
    },
    Deviation {
        title: "a blob in one request (`POST …?digest=`)",
        reason: "The specification has it (end-4b).",
        differences: &[
            expected("uploads: all in one request", "outcome", "202", "201"),
            expected("uploads: all in one request, *", "outcome", "202", "400 DIGEST_INVALID"),
        ],
    },
    Deviation {
        title: "a mount without `from`",
        reason: "The specification leaves it to the registry to find the blob (end-11).",
        differences: &[expected("mounts: from nowhere", "outcome", "202", "201")],
    },
    Deviation {
        title: "sha512",
        reason: "The specification requires the digest that the client gave.",
        differences: &[
            expected(
                "uploads: end with sha512|uploads: a blob by sha512*",
                "docker-content-digest",
                "sha256:*",
                "sha512:*",
            ),
            expected(
                "uploads: end with sha512",
                "location",
                "*/blobs/sha256:*",
                "*/blobs/sha512:*",
            ),
            expected("uploads: a blob by sha512*", "etag", "\"sha256:*", "\"sha512:*"),
            expected("bad pushes: by sha512", "outcome", "400 DIGEST_INVALID", "201"),
            expected("manifests: by sha512*", "outcome", "404*", "200"),
            expected(
                "uploads: begin with an unknown algorithm",
                "outcome",
                "202",
                "400 DIGEST_INVALID",
            ),
        ],
    },
    Deviation {
        title: "`Content-Range` of a chunk",
        reason: "The specification requires chunks in order; in another order they make another blob.",
        differences: &[
            expected("chunks: *", "outcome", "202", "416 RANGE_INVALID"),
            expected("chunks: *", "outcome", "202", "400 SIZE_INVALID"),
            expected("chunks: *", "outcome", "201", "400 SIZE_INVALID"),
            expected("chunks: *", "outcome", "201", "416 RANGE_INVALID"),
        ],
    },
    Deviation {
        title: "`Content-Type` of a chunk",
        reason: "The type of a chunk does not change its bytes.",
        differences: &[
            expected("chunks: a chunk of *", "outcome", "500 UNKNOWN", "202"),
            expected("chunks: the end with a form", "outcome", "400 DIGEST_INVALID", "201"),
        ],
    },
    Deviation {
        title: "the state in the URL of an upload",
        reason: "Uploads are kept in the storage and need no state, so clients can resume them after a restart.",
        differences: &[
            expected("sessions: *", "outcome", "404 BLOB_UPLOAD_INVALID", "202"),
            expected("sessions: *", "outcome", "404 BLOB_UPLOAD_INVALID", "204"),
            expected(
                "sessions: *",
                "outcome",
                "404 BLOB_UPLOAD_INVALID",
                "404 BLOB_UPLOAD_UNKNOWN",
            ),
        ],
    },
    Deviation {
        title: "`Cache-Control` of blobs",
        reason: "The content of a digest never changes, so no cache has to revalidate it.",
        differences: &[expected(
            "*",
            "cache-control",
            "max-age=31536000",
            "max-age=31536000, immutable",
        )],
    },
    Deviation {
        title: "ranges of blobs",
        reason: "RFC 9110 §14 says so.",
        differences: &[
            expected("blobs: range bytes=-0", "outcome", "206", "416"),
            expected(
                "blobs: head with a range|blobs: head with several ranges",
                "outcome",
                "206",
                "200",
            ),
            expected("blobs: range *", "outcome", "416", "200"),
            expected("blobs: range bytes = 0-3", "outcome", "416", "206"),
        ],
    },
    Deviation {
        title: "refused ranges and conditions (416, 412)",
        reason: "With them caches would keep the refusal for a year.",
        differences: &[
            expected(
                "blobs: range *|blobs: if there is another tag, to go on",
                "cache-control",
                "max-age=31536000",
                "–",
            ),
            expected(
                "blobs: range *|blobs: if there is another tag, to go on",
                "docker-content-digest",
                "*",
                "–",
            ),
            expected("blobs: range *|blobs: if there is another tag, to go on", "etag", "*", "–"),
            expected("blobs: range *", "content-type", "text/plain; charset=utf-8", "–"),
            expected(
                "blobs: if there is another tag, to go on",
                "content-type",
                "application/octet-stream",
                "–",
            ),
            expected("blobs: if there is another tag, to go on", "content-length", "36", "0"),
            expected("blobs: range *", "body", "invalid range*", ""),
            expected(
                "blobs: range bytes=7-4|blobs: range bytes=0-1,7-4",
                "content-range",
                "–",
                "bytes */36",
            ),
        ],
    },
    Deviation {
        title: "`If-None-Match`",
        reason: "RFC 9110 §13.1.2 and §15.4.5 say so.",
        differences: &[
            expected("blobs: if there is not the tag without quotes*", "outcome", "200", "304"),
            expected("manifests: if there is not *", "outcome", "200", "304"),
            expected("manifests: if there is not *", "etag", "–", "*"),
            expected("manifests: if there is not *", "docker-content-digest", "–", "sha256:*"),
        ],
    },
    Deviation {
        title: "referrers, subjects, and tags beside a digest",
        reason: "The specification defines them.",
        differences: &[
            expected("manifests: referrers*", "outcome", "404", "200"),
            expected("pushes: with a subject", "oci-subject", "–", "sha256:*"),
            expected("pushes: with tags beside the digest", "oci-tag", "–", "beside, too"),
            expected("manifests: of a tag beside a digest*", "outcome", "404*", "200"),
        ],
    },
    Deviation {
        title: "`Accept` when a manifest is read",
        reason: "Choosing hides images from `curl`; a client that cannot read a manifest gives the better message.",
        differences: &[
            expected("pulls: oci*", "outcome", "404*", "200"),
            expected("pulls: docker*", "outcome", "400*", "200"),
            expected(
                "pulls: docker-list: docker's image*",
                "content-type",
                "*.manifest.v2+json",
                "*.manifest.list.v2+json",
            ),
            expected("pulls: docker-list: docker's image*", "docker-content-digest", "*", "*"),
            expected("pulls: docker-list: docker's image*", "etag", "*", "*"),
            expected("pulls: docker-list: docker's image", "body", "*", "*"),
            expected("pulls: docker-list: docker's image, head", "content-length", "*", "*"),
        ],
    },
    Deviation {
        title: "layers with `urls`",
        reason: "The specification allows such layers elsewhere, and Windows images have them.",
        differences: &[
            expected(
                "pushes: a layer from elsewhere",
                "outcome",
                "500 UNKNOWN, UNKNOWN, MANIFEST_BLOB_UNKNOWN",
                "201",
            ),
            expected("manifests: with a layer from elsewhere*", "outcome", "404*", "200"),
        ],
    },
    Deviation {
        title: "a manifest that is too large",
        reason: "The specification recommends 413.",
        differences: &[expected(
            "bad pushes: too large",
            "outcome",
            "400 MANIFEST_INVALID",
            "413 SIZE_INVALID",
        )],
    },
    Deviation {
        title: "a manifest without `Content-Type`",
        reason: "The manifest contains its type, which is the type that is served.",
        differences: &[expected(
            "bad pushes: without a type",
            "outcome",
            "400 MANIFEST_INVALID",
            "201",
        )],
    },
    Deviation {
        title: "malformed manifests",
        reason: "It is an error of the client.",
        differences: &[
            expected("bad pushes: *", "outcome", "500 UNKNOWN*", "400 MANIFEST_INVALID"),
            expected(
                "bad pushes: *",
                "outcome",
                "400 DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN",
                "400 MANIFEST_INVALID",
            ),
        ],
    },
    Deviation {
        title: "keys of a manifest in another case, or twice",
        reason: "Go programs and other programs read different content from such a manifest, so a check of one reading proves nothing about the other.",
        differences: &[expected("ambiguous: *", "outcome", "201", "400 MANIFEST_INVALID")],
    },
    Deviation {
        title: "a blob requested as a manifest",
        reason: "There is no such manifest in the repository.",
        differences: &[
            expected("manifests: that is a blob", "outcome", "500 UNKNOWN", "404 MANIFEST_UNKNOWN"),
            expected("manifests: that is a blob, head", "outcome", "500", "404"),
        ],
    },
    Deviation {
        title: "`n` that is not a number",
        reason: "registry:3 refuses it too: the whole list is not what the client asked for.",
        differences: &[expected(
            "tags: *|catalog: *|paths: a query with a semicolon",
            "outcome",
            "200",
            "400 PAGINATION_NUMBER_INVALID",
        )],
    },
    Deviation {
        title: "the list of tags",
        reason: "The specification says so.",
        differences: &[
            expected(
                "tags: *|paths: *|deletions: *",
                "order",
                "{\"name\":\"app\",*",
                "{\"name\":\"app\",*",
            ),
            expected("tags: *", "link", "–", "</v2/app/tags/list?last=*&n=*>; rel=\"next\""),
            expected("tags: ?n=*", "body", "*", "*"),
            expected("tags: ?last=*", "body", "*", "*"),
        ],
    },
    Deviation {
        title: "the catalog",
        reason: "A catalog lists what can be pulled; registry:3 requires a manifest as well.",
        differences: &[
            expected("*catalog*", "body", "{\"repositories\":[*\"loose\"*", "{\"repositories\":[*"),
            expected("catalog: ?*", "link", "</v2/_catalog?last=*&n=*>; rel=\"next\"", "–"),
        ],
    },
    Deviation {
        title: "the tags of a repository without tags",
        reason: "The repository exists, and its list of tags is empty.",
        differences: &[
            expected("tags: of blobs without a manifest", "outcome", "404 NAME_UNKNOWN", "200"),
            expected(
                "deletions: tags of an emptied repository",
                "body",
                "{\"name\":\"team/app\",\"tags\":null}",
                "{\"name\":\"team/app\",\"tags\":[]}",
            ),
        ],
    },
    Deviation {
        title: "deleting a tag",
        reason: "The specification has it (end-9).",
        differences: &[
            expected("deletions: a tag", "outcome", "400 DIGEST_INVALID", "202"),
            expected("deletions: *", "outcome", "400 DIGEST_INVALID", "404 MANIFEST_UNKNOWN"),
        ],
    },
    Deviation {
        title: "deleting a blob",
        reason: "All other responses about a blob have it.",
        differences: &[expected("deletions: a blob*", "docker-content-digest", "–", "sha256:*")],
    },
    Deviation {
        title: "deleting a repository",
        reason: "A user who may delete everything in it may do so at once.",
        differences: &[
            expected("deletions: a repository*", "outcome", "404", "202"),
            expected("deletions: a repository again", "outcome", "404", "404 NAME_UNKNOWN"),
        ],
    },
    Deviation {
        title: "deleting a blob that an image references",
        reason: "A pushed image can be pulled until a user deletes it.",
        differences: &[expected("deletions: a needed blob", "outcome", "202", "409 DENIED")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_anything_and_no_other_character_does() {
        for (pattern, text) in
            [("", ""), ("*", ""), ("*", "ab"), ("a*", "a"), ("*b", "ab"), ("a*c*e", "abcde")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", ""), ("a*", "ba"), ("*b", "ba"), ("a.c", "abc")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
