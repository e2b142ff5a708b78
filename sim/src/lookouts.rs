//! The moment in which a sleeper and whoever would wake it may miss each other, around the library's own lookout.
//!
//! In [`crate::batches`] it is too short to be met by chance.

use shuttle::thread;

use crate::lookout::Lookout;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};

/// A reader that looks out goes while another one comes to sleep: as `Waiting` is dropped, and as `Waiting::sleep`.
/// With `careless`, the sleeper does not look for the lookout once more.
///
/// # Panics
/// If the sleeper sleeps with nobody to wake it.
pub fn hand_over(careless: bool) {
    let lookout: Arc<Lookout<()>> = Arc::default();
    // the waker that it left, and whether that was called
    let (waker, woken) = (Arc::new(Mutex::new(false)), Arc::new(AtomicBool::new(false)));
    let gathering = lookout.gathering();
    assert!(lookout.take(gathering), "the first one looks out");
    let goes = {
        let (lookout, waker, woken) = (lookout.clone(), waker.clone(), woken.clone());
        thread::spawn(move || {
            if lookout.leave(gathering) && *lock(&waker) {
                woken.store(true, Ordering::SeqCst);
            }
        })
    };
    let looks_out = lookout.take(gathering) || {
        *lock(&waker) = true;
        assert!(lookout.sleeps(gathering), "nothing was sent");
        !careless && lookout.take(gathering)
    };
    goes.join().expect("it goes without a panic");
    assert!(looks_out || woken.load(Ordering::SeqCst), "it sleeps with nobody to wake it");
}
