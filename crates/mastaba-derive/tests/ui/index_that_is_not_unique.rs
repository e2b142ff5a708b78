use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(table = "post", key = "id", index(author_id), region = "objects", tabel = "post")]
struct Post {
    id: i64,
    author_id: i64,
}

fn main() {}
