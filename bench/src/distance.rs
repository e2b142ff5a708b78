//! A way between clients and a server that takes time, as a network does.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::pin::{pin_thread, thread_id};

/// What it adds in each direction.
pub(crate) const EACH_WAY: Duration = Duration::from_micros(250);

/// Passes on what it is sent [`EACH_WAY`] later, in both directions. What follows is on its way meanwhile, so only time is
/// added, and nothing is taken from how much can be sent.
///
/// It is made of threads that block: the timers of a runtime are four times as coarse as the delay. It lives as long as
/// the program.
pub(crate) struct Distance {
    addr: SocketAddr,
}

impl Distance {
    /// In front of a server, on that core.
    pub(crate) fn before(server: SocketAddr, core: Option<usize>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            // the threads that it starts have both from it
            if let Some(core) = core {
                pin_thread(core);
            }
            wake_in_time();
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                carry(clone(&client), clone(&server));
                carry(server, client);
            }
        });
        Self { addr }
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (send, arrived) = mpsc::channel::<(Instant, Vec<u8>)>();
    to.set_nodelay(true).expect("no delay but ours");
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + EACH_WAY, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arrived {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// The system may let this thread, and those that it starts, sleep for a fifth of the delay longer than they asked for.
/// Where it can be told not to, it is.
fn wake_in_time() {
    if let Some(id) = thread_id() {
        let _ = fs::write(format!("/proc/{id}/timerslack_ns"), "1000");
    }
}
