use mastaba_derive::Cached;

#[derive(Cached)]
struct Post {
    id: i64,
}

fn main() {}
