use tempfile::TempDir;

use super::{segment::SUM, *};

fn lines(lines: &[&str]) -> Vec<Line> {
    lines.iter().map(|line| line.as_bytes().into()).collect()
}

fn open(folder: &TempDir) -> Opened {
    Files::open(folder.path()).unwrap()
}

/// Takes all waiting lines.
fn drain(files: &mut Files) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(line) = files.front().unwrap() {
        taken.push(String::from_utf8(line.to_vec()).unwrap());
        files.take().written.unwrap();
    }
    taken
}

fn segment_files(folder: &TempDir) -> Vec<PathBuf> {
    let segments = segment::list(folder.path()).unwrap();
    segments.into_iter().map(|segment| segment::path(folder.path(), segment)).collect()
}

#[test]
fn lines_come_out_in_the_order_in_which_they_were_added() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, events, .. } = open(&folder);
    assert_eq!((events, files.front().unwrap()), (0, None));
    files.append(&lines(&["a", "b"])).unwrap();
    assert_eq!(drain(&mut files), ["a", "b"]);
    files.append(&lines(&["c"])).unwrap();
    assert_eq!(drain(&mut files), ["c"]);
    assert_eq!(files.front().unwrap(), None);
}

#[test]
fn lines_that_were_not_taken_wait_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, .. } = open(&folder);
    files.append(&lines(&["a", "b", "c"])).unwrap();
    assert_eq!(&*files.front().unwrap().unwrap(), b"a");
    files.take().written.unwrap();
    // `front` does not take the line.
    assert_eq!(&*files.front().unwrap().unwrap(), b"b");
    drop(files);
    let Opened { mut files, events, .. } = open(&folder);
    assert_eq!(events, 2);
    files.append(&lines(&["d"])).unwrap();
    assert_eq!(drain(&mut files), ["b", "c", "d"]);
    drop(files);
    let Opened { mut files, events, .. } = open(&folder);
    assert_eq!((events, drain(&mut files).len()), (0, 0));
    files.append(&lines(&["e"])).unwrap();
    assert_eq!(drain(&mut files), ["e"]);
}

#[test]
fn truncated_line_is_skipped_at_every_length() {
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        let Opened { mut files, .. } = open(&folder);
        files.append(&lines(&["a", "bcd"])).unwrap();
        fs::read(&segment_files(&folder)[0]).unwrap()
    };
    let first = SUM + 3;
    for length in first..=whole.len() {
        for zeros in [0, 5] {
            let folder = tempfile::tempdir().unwrap();
            let mut torn = whole[..length].to_vec();
            torn.extend(std::iter::repeat_n(0, zeros));
            fs::write(segment::path(folder.path(), 3), torn).unwrap();
            let Opened { mut files, events, .. } = open(&folder);
            let expected: &[&str] =
                if length == whole.len() { &["a", "bcd", "e"] } else { &["a", "e"] };
            assert_eq!(events as usize, expected.len() - 1);
            files.append(&lines(&["e"])).unwrap();
            assert_eq!(drain(&mut files), expected, "{length} bytes, {zeros} zeros");
        }
    }
}

#[test]
fn damaged_line_is_skipped_and_the_lines_around_it_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, .. } = open(&folder);
    files.append(&lines(&["a", "b", "c"])).unwrap();
    drop(files);
    let file = &segment_files(&folder)[0];
    let mut bytes = fs::read(file).unwrap();
    // A byte of the second line.
    bytes[SUM + 3 + 4] ^= 1;
    fs::write(file, bytes).unwrap();
    let Opened { mut files, events, .. } = open(&folder);
    assert_eq!((events, drain(&mut files)), (2, vec!["a".to_owned(), "c".to_owned()]));
}

#[test]
fn segments_are_bounded_and_deleted_after_their_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, .. } = open(&folder);
    let long = "x".repeat(300 * 1024);
    for number in 0..20 {
        files.append(&lines(&[&format!("{number:02}{long}")])).unwrap();
    }
    assert_eq!(segment_files(&folder).len(), 5);
    for number in 0..20 {
        assert_eq!(files.front().unwrap().unwrap()[..2], *format!("{number:02}").as_bytes());
        files.take().written.unwrap();
        if number % 7 == 0 {
            // The drop releases the lock.
            drop(files);
            files = open(&folder).files;
        }
    }
    assert_eq!(files.front().unwrap(), None);
    assert!(segment_files(&folder).len() <= 1);
    files.append(&lines(&["after"])).unwrap();
    assert_eq!(drain(&mut files), ["after"]);
}

#[test]
fn cursor_beyond_the_lines_that_a_power_cut_has_left_hides_no_new_line() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, .. } = open(&folder);
    files.append(&lines(&["a", "b"])).unwrap();
    assert_eq!(drain(&mut files).len(), 2);
    drop(files);
    // The power cut came after the cursor was written back, and before the lines were.
    for left in [Some(0), None] {
        let file = segment_files(&folder).pop().unwrap();
        match left {
            Some(length) => {
                File::options().write(true).open(file).unwrap().set_len(length).unwrap()
            }
            None => fs::remove_file(file).unwrap(),
        }
        let Opened { mut files, events, .. } = open(&folder);
        assert_eq!(events, 0);
        files.append(&lines(&["c"])).unwrap();
        assert_eq!(drain(&mut files), ["c"], "{left:?}");
    }
}

#[test]
fn all_lines_are_sent_again_after_damage_to_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { mut files, .. } = open(&folder);
    files.append(&lines(&["a", "b"])).unwrap();
    files.front().unwrap();
    files.take().written.unwrap();
    drop(files);
    fs::write(folder.path().join("cursor"), "\0\0\0").unwrap();
    assert_eq!(drain(&mut open(&folder).files), ["a", "b"]);
}

#[test]
fn queue_is_locked_against_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let _opened = open(&folder);
    let error = Files::open(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "another process sends these events");
}

#[test]
fn folder_names_are_valid_and_distinct() {
    let mut names = std::collections::BTreeSet::new();
    for name in ["a", "A", "a/b", "..", ".", "a b", "a%20b", "é", "-_"] {
        let folder = folder_name(name).unwrap();
        assert!(!folder.contains(['/', '.']), "{folder}");
        assert!(names.insert(folder), "{name}");
    }
    assert!(folder_name(&"é".repeat(43)).is_err());
}
