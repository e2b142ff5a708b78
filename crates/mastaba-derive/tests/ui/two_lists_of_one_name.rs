use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(table = "post", key = "id", list(author_id), list(author_id, order = "id desc"), key(a, b, c, d, e))]
struct Post {
    id: i64,
    author_id: i64,
}

#[derive(Cached)]
#[cached(table = "tag", key = "id", list(author, name = 7), index(author, unique, order = "id"))]
struct Tag {
    id: i64,
    author: i64,
}

#[derive(Cached)]
#[cached(table = "seat", key = "id", list(author_id), list(author))]
struct Seat {
    id: i64,
    author_id: i64,
    author: i64,
}

fn main() {}
