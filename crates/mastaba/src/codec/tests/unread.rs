//! Fields that are read and never written, and the schema number.

#![allow(dead_code, reason = "many fields are here for serde alone")]

use super::*;

/// The fields that `value` reads and does not write.
fn unread<V: Value>(value: &V) -> Vec<String> {
    let codec = Codec::of::<V>(0);
    let mut out = Vec::new();
    let format = codec.encode(value, &mut out).unwrap();
    codec.unread(value, format, &out).unwrap_or_default()
}

#[derive(Default, Serialize, Deserialize)]
struct User {
    id: u32,
    #[serde(skip_serializing, default)]
    password_hash: String,
}

#[test]
fn a_field_that_is_read_and_never_written_is_found_wherever_it_stands() {
    assert_eq!(unread(&User::default()), ["User.password_hash"]);
    assert_eq!(unread(&vec![Some((1, Box::new(User::default())))]), ["User.password_hash"]);
    assert_eq!(unread(&BTreeMap::from([(1, User::default())])), ["User.password_hash"]);

    #[derive(Serialize, Deserialize)]
    enum Account {
        Person {
            #[serde(skip_serializing, default)]
            salt: u8,
            user: User,
        },
        Robot,
    }
    let person = Account::Person { salt: 1, user: User::default() };
    assert_eq!(unread(&vec![Account::Robot, person]), ["Account.salt", "User.password_hash"]);
    assert_eq!(unread(&vec![Account::Robot]), [""; 0]);

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Renamed {
        #[serde(rename(deserialize = "old_name", serialize = "name"))]
        name: String,
    }
    assert_eq!(unread(&Renamed::default()), ["Renamed.old_name"]);
}

#[test]
fn what_may_be_written_by_another_value_is_not_taken_for_never_written() {
    assert_eq!(unread(&Sparse { a: None, b: vec![], c: 1 }), [""; 0]);
    assert_eq!(unread(&account()), [""; 0]);
    assert_eq!(
        unread(&Flat { key: 1, rest: Wide { id: 2, name: "n".into() }, more: HashMap::new() }),
        [""; 0]
    );

    #[derive(Default, Serialize, Deserialize)]
    struct Aliased {
        #[serde(alias = "mail", alias = "e_mail")]
        email: String,
        #[serde(alias = "nick", default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip)]
        seen: u8,
    }
    assert_eq!(unread(&Aliased::default()), [""; 0]);
    assert_eq!(unread(&Aliased { name: Some("n".into()), ..Aliased::default() }), [""; 0]);
    let two = vec![Aliased::default(), Aliased { name: Some("n".into()), ..Aliased::default() }];
    assert_eq!(unread(&two), [""; 0]);
}

#[test]
fn a_field_that_is_left_out_hides_no_other_one_unless_they_could_be_one() {
    #[derive(Default, Serialize, Deserialize)]
    struct Both {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nick: Option<String>,
        #[serde(skip_serializing, default)]
        hash: Vec<u8>,
        #[serde(skip_serializing, default)]
        salt: Option<String>,
    }
    // `salt` could be an alias of `nick`, as far as this value shows
    assert_eq!(unread(&Both::default()), ["Both.hash"]);
    assert_eq!(unread(&Both { nick: Some("n".into()), ..Both::default() }), ["Both.hash", "Both.salt"]);
}

#[test]
fn only_the_first_values_are_looked_at_and_each_find_is_told_once() {
    let codec = Codec::of::<Vec<User>>(0);
    let look = |users: Vec<User>| {
        let mut out = Vec::new();
        let format = codec.encode(&users, &mut out).unwrap();
        codec.unread(&users, format, &out)
    };
    assert_eq!(look(vec![]), None);
    assert!(look(vec![User::default()]).is_some());
    assert_eq!(look(vec![User::default()]), None);
    let codec = Codec::of::<Vec<User>>(0);
    let mut out = Vec::new();
    let format = codec.encode(&vec![User::default()], &mut out).unwrap();
    for _ in 0..LOOKS {
        assert_eq!(codec.unread(&Vec::<User>::new(), format, &[0x90]), None);
    }
    assert_eq!(codec.unread(&vec![User::default()], format, &out), None);
}

#[test]
fn a_version_that_was_raised_is_another_schema_in_both_formats() {
    for format in [Format::Postcard, Format::MessagePack] {
        assert_ne!(Codec::of::<Account>(0).schema(format), Codec::of::<Account>(1).schema(format));
        assert_ne!(Codec::of::<Untagged>(0).schema(format), Codec::of::<Untagged>(1).schema(format));
        assert_ne!(Codec::of::<Untagged>(1).schema(format), Codec::of::<Untagged>(2).schema(format));
    }
}

#[test]
fn a_type_with_names_has_another_schema_when_what_could_be_traced_of_it_changes() {
    mod old {
        use super::*;
        #[derive(Serialize, Deserialize)]
        pub(super) struct Page {
            title: String,
            body: Untagged,
            #[serde(skip_serializing, default)]
            key: u8,
        }
    }
    mod new {
        use super::*;
        #[derive(Serialize, Deserialize)]
        pub(super) struct Page {
            title: String,
            body: Untagged,
            subtitle: Option<String>,
            #[serde(skip_serializing, default)]
            key: u8,
        }
    }
    let (old, new) = (Codec::of::<old::Page>(0).encoding(), Codec::of::<new::Page>(0).encoding());
    assert_eq!((old.format, new.format), (Format::MessagePack, Format::MessagePack));
    assert_ne!(old.schema, new.schema);
    assert_eq!(old, Codec::of::<old::Page>(0).encoding());
    assert!(old.to_string().starts_with("with names (it asks for anything), schema "), "{old}");
}
