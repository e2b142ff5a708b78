//! What makes a piece of the user's code panic, at a call of the test's choice.

use std::cell::Cell;
use std::sync::Once;

/// A piece of the user's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    KeyHash,
    KeyEq,
    KeyClone,
    KeyDrop,
    KeySerialize,
    ValueSerialize,
    ValueDeserialize,
    ValueDrop,
    Tags,
    /// Before the first await, where no future is there yet.
    LoadCalled,
    LoadAwaited,
    BeforeStoreCalled,
    BeforeStoreAwaited,
    AfterFetchCalled,
    AfterFetchAwaited,
    Mangler,
    Listener,
    BackendCalled,
    BackendAwaited,
    Incarnation,
}

impl Part {
    pub(crate) const ALL: [Self; 20] = [
        Self::KeyHash,
        Self::KeyEq,
        Self::KeyClone,
        Self::KeyDrop,
        Self::KeySerialize,
        Self::ValueSerialize,
        Self::ValueDeserialize,
        Self::ValueDrop,
        Self::Tags,
        Self::LoadCalled,
        Self::LoadAwaited,
        Self::BeforeStoreCalled,
        Self::BeforeStoreAwaited,
        Self::AfterFetchCalled,
        Self::AfterFetchAwaited,
        Self::Mangler,
        Self::Listener,
        Self::BackendCalled,
        Self::BackendAwaited,
        Self::Incarnation,
    ];
}

/// How it is set: of a thread, as each test has a runtime of one thread.
#[derive(Clone, Copy)]
struct Fuse {
    part: Part,
    /// Calls that go well before one panics.
    left: usize,
}

thread_local! {
    static FUSE: Cell<Option<Fuse>> = const { Cell::new(None) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static ALWAYS: Cell<Option<(Part, u64)>> = const { Cell::new(None) };
}

/// From now on the call after so many of this part panics, once.
pub(crate) fn arm(part: Part, calls: usize) {
    quiet();
    FUSE.set(Some(Fuse { part, left: calls }));
}

/// From now on each call of this part for this id panics.
pub(crate) fn always(part: Part, id: u64) {
    quiet();
    ALWAYS.set(Some((part, id)));
}

/// Nothing panics from now on. Whether the fuse had blown.
pub(crate) fn disarm() -> bool {
    ALWAYS.set(None);
    FUSE.take().is_none()
}

/// While it lives nothing panics: the test itself looks at keys and values.
pub(crate) struct Hold;

pub(crate) fn hold() -> Hold {
    HELD.set(HELD.get() + 1);
    Hold
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// Called by each part.
pub(crate) fn pass(part: Part, id: u64) {
    if HELD.get() > 0 || std::thread::panicking() {
        return;
    }
    if ALWAYS.get() == Some((part, id)) {
        panic!("the fuse of {part:?}");
    }
    if let Some(fuse) = FUSE.get().filter(|fuse| fuse.part == part) {
        if fuse.left == 0 {
            FUSE.set(None);
            panic!("the fuse of {part:?}");
        }
        FUSE.set(Some(Fuse { left: fuse.left - 1, ..fuse }));
    }
}

/// The panics that the tests wish for are not printed.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
            if !said.starts_with("the fuse of") {
                print(panic);
            }
        }));
    });
}
