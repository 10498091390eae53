//! Reading blobs.

use crate::{
    content::{ABSENT, LOOSE, digest, digest512},
    step::{Step, get, head, patch, post, put},
};

#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn steps() -> Vec<Step> {
    let loose = digest(LOOSE);
    let blob = format!("/v2/app/blobs/{loose}");
    let mut steps = vec![
        get("all", &blob),
        head("head", &blob),
        get("with a query", format!("{blob}?x=y")),
        get("of a client that compresses", &blob).header("Accept-Encoding", "gzip"),
        get("of a client that takes HTML", &blob).header("Accept", "text/html"),
        get("with an escaped digest", blob.replace(':', "%3A")),
        get("in another repository", format!("/v2/team/app/blobs/{loose}")),
        get("in an unknown repository", format!("/v2/unknown/blobs/{loose}")),
        head("in an unknown repository, head", format!("/v2/unknown/blobs/{loose}")),
        get("unknown", format!("/v2/app/blobs/{}", digest(ABSENT))),
        head("unknown, head", format!("/v2/app/blobs/{}", digest(ABSENT))),
        get("unknown by sha512", format!("/v2/app/blobs/{}", digest512(ABSENT))),
        get("a slash behind it", format!("{blob}/")),
        post("post", &blob),
        put("put", &blob),
        patch("patch", &blob),
        Step::new("OPTIONS", "options", &blob),
    ];
    for (what, text) in [
        ("too short a digest", "sha256:abc".to_owned()),
        ("a digest a digit short", loose[..loose.len() - 1].to_owned()),
        ("a digest a digit long", format!("{loose}0")),
        ("a digest in capitals", format!("sha256:{}", loose[7..].to_uppercase())),
        ("an algorithm in capitals", loose.replace("sha256", "SHA256")),
        ("another algorithm", format!("md5:{}", "0".repeat(32))),
        ("an algorithm of several parts", format!("sha256+b64:{}", "0".repeat(64))),
        ("a digest of no digits", format!("sha256:{}", "g".repeat(64))),
        ("no algorithm", loose[7..].to_owned()),
        ("a tag", "latest".to_owned()),
        ("nothing", String::new()),
    ] {
        steps.push(get(what, format!("/v2/app/blobs/{text}")));
    }
    for range in [
        "bytes=0-3",
        "bytes=4-7",
        "bytes=30-",
        "bytes=-6",
        "bytes=0-0",
        "bytes=0-",
        "bytes=0-999",
        "bytes=35-35",
        "bytes=36-",
        "bytes=36-40",
        "bytes=99-",
        "bytes=-0",
        "bytes=-99",
        "bytes=7-4",
        "bytes=0-1,4-5",
        "bytes=4-5,0-1",
        "bytes=0-3,",
        "bytes=,0-3",
        "bytes=0-1, 4-5 ,-2",
        "bytes=0-9,5-14",
        "bytes=0-17,18-35",
        "bytes=0-,0-",
        "bytes=0-20,10-35",
        "bytes=0-1,36-",
        "bytes=36-,99-100",
        "bytes=0-1,7-4",
        "bytes=0-1,x-y",
        "bytes=",
        "bytes=x-y",
        "bytes",
        "lines=0-3",
        "bytes = 0-3",
    ] {
        steps.push(get(format!("range {range}"), &blob).header("Range", range));
    }
    steps.push(head("head with a range", &blob).header("Range", "bytes=0-3"));
    steps.push(head("head with several ranges", &blob).header("Range", "bytes=0-1,4-5"));
    for (what, tag) in [("the tag", format!("\"{loose}\"")), ("another tag", "\"x\"".to_owned())] {
        let step = get(format!("if there is {what}, for several ranges"), &blob);
        steps.push(step.header("Range", "bytes=0-1,4-5").header("If-Range", tag));
    }
    // An unauthenticated client learns nothing, not even whether a range is valid.
    for range in ["bytes=0-3", "bytes=0-1,4-5", "bytes=0-3,", "bytes=99-"] {
        steps.push(
            get(format!("without credentials, range {range}"), &blob)
                .header("Range", range)
                .by(None),
        );
    }
    for (what, tag) in [
        ("the tag", format!("\"{loose}\"")),
        ("the tag without quotes", loose.clone()),
        ("the tag, weak", format!("W/\"{loose}\"")),
        ("one of several tags", format!("\"x\", \"{loose}\"")),
        ("any tag", "*".to_owned()),
        ("another tag", format!("\"{}\"", digest(ABSENT))),
        ("no tag", String::new()),
    ] {
        steps.push(get(format!("if there is not {what}"), &blob).header("If-None-Match", &tag));
        steps.push(
            head(format!("if there is not {what}, head"), &blob).header("If-None-Match", tag),
        );
    }
    for (what, header, value) in [
        ("the tag, for a range", "If-Range", format!("\"{loose}\"")),
        ("another tag, for a range", "If-Range", "\"x\"".to_owned()),
        ("the tag, to go on", "If-Match", format!("\"{loose}\"")),
        ("another tag, to go on", "If-Match", "\"x\"".to_owned()),
        ("a change since then", "If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT".to_owned()),
        ("no change since then", "If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT".to_owned()),
    ] {
        let step = get(format!("if there is {what}"), &blob).header(header, value);
        steps.push(step.header("Range", "bytes=0-3"));
    }
    steps
}
