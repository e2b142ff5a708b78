//! Many readers, and one who edits: nobody sees what was there before an edit that was acknowledged.

mod web;

#[cfg(unix)]
#[test]
fn no_page_is_stale_after_an_acknowledged_edit() {
    web::load::under_load(&[], 1);
}

#[cfg(unix)]
#[test]
fn no_page_is_stale_with_near_either() {
    web::load::under_load(&["--near", "10000"], 1);
}
