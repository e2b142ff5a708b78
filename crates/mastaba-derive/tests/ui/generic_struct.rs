use mastaba_derive::Cached;

#[derive(Cached)]
#[cached(table = "post", key = "id")]
struct Post<T> {
    id: i64,
    more: T,
}

#[derive(Cached)]
#[cached(table = "pair", key = "id")]
struct Pair(i64, i64);

#[derive(Cached)]
#[cached(table = "either", key = "id")]
enum Either {
    One,
    Other,
}

fn main() {}
