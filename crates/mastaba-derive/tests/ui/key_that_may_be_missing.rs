use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(table = "post", key(id, part), list(notes))]
struct Post {
    id: i64,
    part: Option<i64>,
    #[sqlx(skip)]
    notes: String,
}

fn main() {}
