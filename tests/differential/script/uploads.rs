//! Pushing blobs. A step with different responses gets an upload of its own, so that the next step
//! finds both servers in the same state.

use crate::{
    content::{ABSENT, CONFIG, LAYER, LOOSE, NO_ID, OCTETS, digest, digest512},
    step::{Step, delete, get, head, patch, post, put},
};

const BEGIN: &str = "/v2/app/blobs/uploads/";

fn begin(name: &str, keep: &'static str) -> Step {
    post(format!("begin {name}"), BEGIN).keep(keep)
}

fn chunk(name: &str, target: &str, bytes: &str) -> Step {
    patch(name, target).header("Content-Type", OCTETS).body(bytes)
}

fn end(name: &str, target: &str, bytes: &str, digest: &str) -> Step {
    put(name, target).query(format!("digest={digest}")).header("Content-Type", OCTETS).body(bytes)
}

/// The push of a blob, in each form that clients use.
pub(super) fn steps() -> Vec<Step> {
    let (layer, config, loose) = (digest(LAYER), digest(CONFIG), digest(LOOSE));
    vec![
        // As docker does it: begin, one stream, end.
        begin("a layer", "layer"),
        get("status of an empty one", "{layer}"),
        head("status of an empty one, head", "{layer}"),
        patch("a stream", "{layer}").chunked(LAYER).keep("layer"),
        get("status behind the stream", "{layer}"),
        head("status behind the stream, head", "{layer}"),
        end("end", "{layer}", "", &layer),
        get("status of a finished one", "{layer}"),
        chunk("a chunk for a finished one", "{layer}", "more"),
        end("end of a finished one", "{layer}", "", &layer),
        delete("cancel a finished one", "{layer}"),
        // All bytes in the final PUT.
        begin("a configuration", "config"),
        end("end with all of it", "{config}", CONFIG, &config),
        begin("the same again", "again"),
        end("the same again", "{again}", CONFIG, &config),
        begin("a stream with the end", "stream"),
        put("end with a stream", "{stream}").query(format!("digest={config}")).chunked(CONFIG),
        begin("nothing", "nothing"),
        end("end of nothing", "{nothing}", "", &digest("")),
        begin("an escaped digest", "escaped"),
        end("end with an escaped digest", "{escaped}", CONFIG, &config.replace(':', "%3A")),
        // In another repository, for the next groups.
        post("begin in another repository", "/v2/loose/blobs/uploads/").keep("loose"),
        end("end in another repository", "{loose}", LOOSE, &loose),
        // In one request.
        post("all in one request", BEGIN)
            .query(format!("digest={loose}"))
            .header("Content-Type", OCTETS)
            .body(LOOSE),
        post("all in one request, with another digest", BEGIN)
            .query(format!("digest={}", digest(ABSENT)))
            .header("Content-Type", OCTETS)
            .body(LOOSE),
        post("all in one request, with a malformed digest", BEGIN).query("digest=sha256:abc"),
        begin("for what no server did above", "one"),
        end("end of what no server did above", "{one}", LOOSE, &loose),
        // sha512
        begin("for sha512", "sha512"),
        end("end with sha512", "{sha512}", "by sha512", &digest512("by sha512")),
        get("a blob by sha512", format!("/v2/app/blobs/{}", digest512("by sha512"))),
        head("a blob by sha512, head", format!("/v2/app/blobs/{}", digest512("by sha512"))),
        post("begin with an algorithm", BEGIN).query("digest-algorithm=sha512"),
        post("begin with an unknown algorithm", BEGIN).query("digest-algorithm=md5"),
        // Names and forms of the POST.
        post("begin without the slash", "/v2/app/blobs/uploads"),
        post("begin with a body", BEGIN).body("not looked at"),
        post("begin with a query that means nothing", BEGIN).query("x=y"),
        post("begin in a malformed name", "/v2/App/blobs/uploads/"),
        get("the list of uploads", BEGIN),
        put("put at the beginning", BEGIN),
        delete("delete the beginning", BEGIN),
    ]
}

/// Chunks, and their headers.
pub(super) fn chunks() -> Vec<Step> {
    let all = digest("0123456789");
    let mut steps = vec![
        begin("in order", "order"),
        chunk("the first", "{order}", "01234").header("Content-Range", "0-4").keep("order"),
        get("status behind the first", "{order}"),
        chunk("the second", "{order}", "567").header("Content-Range", "5-7").keep("order"),
        chunk("of no bytes", "{order}", "").keep("order"),
        end("the last, with the end", "{order}", "89", &all).header("Content-Range", "8-9"),
    ];
    for (what, keep, range) in [
        ("a gap", "gap", "5-9"),
        ("too long a range", "long", "0-9"),
        ("too short a range", "short", "0-1"),
        ("a range that ends before it begins", "backwards", "4-0"),
        ("a malformed range", "none", "x-y"),
        ("an empty range", "empty", ""),
        ("a range with a unit", "unit", "bytes 0-4/*"),
        ("a range with a unit and a size", "size", "bytes 0-4/10"),
        ("a range of another unit", "lines", "lines 0-4/*"),
        ("a range with an equals sign", "equals", "bytes=0-4"),
        ("a range with a size and no unit", "sized", "0-4/10"),
        ("a range beyond its size", "beyond", "bytes 0-4/4"),
        ("a gap and too long a range", "gaplong", "5-99"),
    ] {
        steps.push(begin(what, keep));
        let target = format!("{{{keep}}}");
        steps.push(chunk(what, &target, "01234").header("Content-Range", range));
        let anonymous = chunk(&format!("{what}, without credentials"), &target, "01234");
        steps.push(anonymous.header("Content-Range", range).by(None));
    }
    for (what, keep, range) in [
        ("no bytes, as a registry says it", "nothing1", "0-0"),
        ("no bytes, as arithmetic says it", "nothing2", "0--1"),
    ] {
        steps.push(begin(what, keep));
        let target = format!("{{{keep}}}");
        steps.push(chunk(what, &target, "").header("Content-Range", range).keep(keep));
        steps.push(get(format!("status behind {what}"), target));
    }
    for (what, keep, range) in
        [("a gap before the end", "late", "5-9"), ("a wrong range with the end", "wrong", "0-99")]
    {
        steps.push(begin(what, keep));
        let target = format!("{{{keep}}}");
        steps.push(end(what, &target, "0123456789", &all).header("Content-Range", range));
    }
    for (what, keep, kind) in [
        ("a chunk of no type", "typeless", ""),
        ("a chunk of JSON", "json", "application/json"),
        ("a chunk of text", "text", "text/plain"),
        ("a chunk of octets with parameters", "parameters", "application/octet-stream; x=y"),
        ("a chunk of a form", "form", "application/x-www-form-urlencoded"),
        ("a chunk of a form in parts", "parts", "multipart/form-data; boundary=x"),
    ] {
        steps.push(begin(what, keep));
        let target = format!("{{{keep}}}");
        steps.push(patch(what, target).header("Content-Type", kind).body("0123456789"));
    }
    for (what, keep, kind) in [
        ("the end with JSON", "endjson", "application/json"),
        ("the end with a form", "endform", "application/x-www-form-urlencoded"),
    ] {
        steps.push(begin(what, keep));
        let target = format!("{{{keep}}}");
        let end = put(what, target).query(format!("digest={all}"));
        steps.push(end.header("Content-Type", kind).body("0123456789"));
    }
    steps
}

/// The events that upload sessions survive, and the clients that may continue them.
pub(super) fn sessions() -> Vec<Step> {
    let all = digest("0123456789");
    let of_no_id = format!("{BEGIN}{NO_ID}");
    let mut steps = vec![
        begin("one to cancel", "cancelled"),
        chunk("a chunk of it", "{cancelled}", "0123").keep("cancelled"),
        delete("cancel", "{cancelled}"),
        get("status of a cancelled one", "{cancelled}"),
        delete("cancel again", "{cancelled}"),
        begin("one that ends without a digest", "missing"),
        chunk("the chunk of it", "{missing}", "0123456789").keep("missing"),
        put("end without a digest", "{missing}"),
        put("end with an empty digest", "{missing}").query("digest="),
        put("end with a malformed digest", "{missing}").query("digest=sha256:abc"),
        put("end with another algorithm", "{missing}")
            .query(format!("digest=md5:{}", "0".repeat(32))),
        put("end with a digest in capitals", "{missing}")
            .query(format!("digest=sha256:{}", all[7..].to_uppercase())),
        get("status of one that did not end", "{missing}"),
        end("end after all", "{missing}", "", &all),
        begin("one that ends with another digest", "mismatch"),
        end("end with another digest", "{mismatch}", "0123456789", &digest(ABSENT)),
        get("status behind another digest", "{mismatch}"),
        begin("one that ends with two digests", "two"),
        end("end with two digests", "{two}", "0123456789", &all)
            .query(format!("digest={all}&digest={}", digest(ABSENT))),
        begin("one for a stale address", "old"),
        chunk("a chunk that is answered with a new address", "{old}", "01234"),
        chunk("a chunk to the old address", "{old}", "56789"),
        begin("one that others look at", "mine"),
        get("status without state", format!("{BEGIN}{{mine.id}}")),
        get("status with a wrong state", format!("{BEGIN}{{mine.id}}?_state=abc")),
        get("status in another repository", "/v2/other/blobs/uploads/{mine.id}"),
        chunk("a chunk without state", &format!("{BEGIN}{{mine.id}}"), ""),
        chunk("a chunk in another repository", "/v2/other/blobs/uploads/{mine.id}", "0"),
        delete("cancel in another repository", "/v2/other/blobs/uploads/{mine.id}"),
        get("status in the end", "{mine}"),
    ];
    for (what, target) in
        [("an unknown id", of_no_id.as_str()), ("a malformed id", "/v2/app/blobs/uploads/no-id")]
    {
        steps.push(get(format!("status of {what}"), target));
        steps.push(head(format!("status of {what}, head"), target));
        steps.push(chunk(&format!("a chunk for {what}"), target, "0123456789"));
        steps.push(end(&format!("the end of {what}"), target, "", &all));
        steps.push(delete(format!("cancel {what}"), target));
    }
    steps.push(post("post to an upload", of_no_id.clone()));
    steps.push(Step::new("OPTIONS", "options of an upload", of_no_id));
    steps.push(get("an id that leads away", "/v2/app/blobs/uploads/..%2f..%2f_manifests"));
    steps
}
