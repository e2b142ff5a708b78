use super::*;

fn repository(pages: &[(&str, &str)], rust: &[(&str, &str)]) -> Repository {
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    Repository {
        pages: pages.iter().map(|(path, text)| ((*path).to_owned(), Page::read(text))).collect(),
        others: BTreeSet::from(["crates".to_owned(), "crates/a.rs".to_owned()]),
        rust: rust.iter().map(owned).collect(),
    }
}

/// What is wrong with one page of the book, beside what the others lack.
fn of_a_page(text: &str, rust: &[(&str, &str)]) -> Vec<String> {
    let summary = "[one](one.md) [guarantees](guarantees.md)";
    let promise = "| what | test |\n| --- | --- |\n| one | `it_is_as_it_was_before` |\n";
    let mut sources = vec![("crates/b.rs", "fn it_is_as_it_was_before() {}")];
    sources.extend(rust);
    let pages = [(SUMMARY, summary), (GUARANTEES, promise), ("docs/book/src/one.md", text)];
    repository(&pages, &sources).problems()
}

#[test]
fn a_sound_page_has_no_problem() {
    let text = "# One\n[file](../../../crates/a.rs) [folder](../../../crates) [self](#one) [site](https://a.example)\n";
    assert_eq!(of_a_page(text, &[]), [""; 0]);
}

#[test]
fn a_link_to_nothing_is_found_with_its_line() {
    let found = of_a_page(
        "# One\n\n[a](two.md)\n[b](#two)\n[c](guarantees.md#x)\n[d](../../../../x.md)\n![e](e.png)",
        &[],
    );
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found[0].starts_with("docs/book/src/one.md:3: the link `two.md` leads nowhere: there is no"),
        "{found:?}"
    );
    assert!(found[1].contains("no heading `two`") && found[2].contains("no heading `x`"), "{found:?}");
    assert!(found[3].contains("leaves the repository") && found[4].contains("e.png"), "{found:?}");
}

#[test]
fn rust_that_nobody_compiles_is_found() {
    let lib = ("docs/book/code/src/lib.rs", "include_str! pages! { one: \"src/one.md\"; }");
    assert_eq!(of_a_page("```rust\n```\n```rust,no_run\n```\n```text\n```\n", &[lib]), [""; 0]);
    assert_eq!(of_a_page("```rust,compile_fail,E0277\n```\n", &[lib]), [""; 0]);
    let found = of_a_page("```rust\n```\n", &[]);
    assert!(found.len() == 1 && found[0].contains("compiled by no crate"), "{found:?}");
    for (block, why) in
        [("rust,ignore", "`ignore`"), ("rs", "`rs`"), ("", "no language"), ("rust,text", "`text`")]
    {
        let found = of_a_page(&format!("```{block}\n```\n"), &[lib]);
        assert!(found.len() == 1 && found[0].contains(why), "{block}: {found:?}");
    }
}

#[test]
fn a_readme_is_compiled_by_its_own_crate() {
    let pages = [("crates/x/README.md", "```rust\n```\n"), (SUMMARY, "[g](guarantees.md)"), (GUARANTEES, "")];
    let problems = |text| repository(&pages, &[("crates/x/src/lib.rs", text)]).problems();
    let of_readme =
        |problems: Vec<String>| problems.iter().any(|problem| problem.starts_with("crates/x/README.md"));
    assert!(!of_readme(problems("#[doc = include_str!(\"../README.md\")]")));
    assert!(of_readme(problems("#[doc = include_str!(\"../OTHER.md\")]")));
}

#[test]
fn a_test_that_is_not_there_is_found() {
    let found = of_a_page("`it_is_as_it_was`, `it_is_as_it_was_befor`, `mastaba_a_b_c_total`, `a_b`\n", &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("`it_is_as_it_was`") && found[1].contains("`it_is_as_it_was_befor`"),
        "{found:?}"
    );
}

#[test]
fn a_page_that_the_summary_leaves_out_and_a_promise_without_a_test_are_found() {
    let table = "| what | test |\n| --- | --- |\n| one | |\n";
    let found = repository(&[(SUMMARY, ""), (GUARANTEES, table)], &[]).problems();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("not in docs/book/src/SUMMARY.md"), "{found:?}");
    assert!(found[1].contains(":3: this promise names no test"), "{found:?}");
}

#[test]
fn a_cell_without_a_test_is_found_where_others_of_its_column_name_one() {
    let modes = |last: &str| {
        format!(
            "| mode | trips | I1 |\n| --- | --- | --- |\n| one | 1 | `it_is_as_it_was_before` |\n| two | 2 | {last} |\n"
        )
    };
    assert_eq!(of_a_page(&modes("yes `it_is_as_it_was_before`"), &[]), [""; 0]);
    let found = of_a_page(&modes("yes, by `hold_ttl`"), &[]);
    assert_eq!(
        found,
        ["docs/book/src/one.md:4: column 3 names no test here, and one in other rows"],
        "a promise that nothing shows"
    );
    assert_eq!(of_a_page("| a | b |\n| --- | --- |\n| `x` | |\n", &[]), [""; 0], "no table of promises");
}
