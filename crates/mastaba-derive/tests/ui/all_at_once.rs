use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(
    table = "post",
    key = "idd",
    index(slugg, unique),
    list(nobody),
    list(author_id, order = "created_at down, scor")
)]
struct Post {
    id: i64,
    slug: String,
    author_id: i64,
    created_at: i64,
    score: i64,
}

fn main() {}
