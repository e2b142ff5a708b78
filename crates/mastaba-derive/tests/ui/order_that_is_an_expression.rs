use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(table = "post", key = "id", list(author_id, order = "lower(title) desc"), list(author_id, limit = 0, name = "none"))]
struct Post {
    id: i64,
    author_id: i64,
    title: String,
}

fn main() {}
