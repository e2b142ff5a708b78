//! One connection through the proxy.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;

use super::{Board, Direction, LinkMode};

/// So much of what a client sends is remembered.
const MEMORY: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct ProxyLink {
    sent: Mutex<Vec<u8>>,
    cut: Notify,
    /// The next answer is lost, and the connection with it.
    trapped: AtomicBool,
    /// Bytes were lost: what follows them would be garbage to whoever reads it.
    lost_to_server: AtomicBool,
    lost_to_client: AtomicBool,
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum ConnectionEnd {
    Close,
    Reset,
}

impl ProxyLink {
    /// Has the connection closed.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    pub(super) fn has_sent(&self, words: &str) -> bool {
        contains(&self.sent.lock().unwrap_or_else(PoisonError::into_inner), words)
    }

    /// Moves bytes until the connection ends, and closes it.
    pub(super) async fn run(&self, mut client: TcpStream, board: &Board) {
        let end = tokio::select! {
            end = self.carry(&mut client, board) => end,
            () = self.cut.notified() => ConnectionEnd::Close,
        };
        if end == ConnectionEnd::Reset {
            let _ = client.set_zero_linger();
        }
    }

    async fn carry(&self, client: &mut TcpStream, board: &Board) -> ConnectionEnd {
        let _ = client.set_nodelay(true);
        let server = TcpStream::connect(board.server).await;
        let (from_client, to_client) = client.split();
        let Ok(mut server) = server else {
            // behind a cable that was pulled nobody learns that the server is gone
            if board.state().mode.swallows(Direction::ToClient) {
                return drain(from_client).await;
            }
            return ConnectionEnd::Close;
        };
        let _ = server.set_nodelay(true);
        let (from_server, to_server) = server.split();
        tokio::select! {
            end = self.requests(from_client, to_server, board) => end,
            end = self.answers(from_server, to_client, board) => end,
        }
    }

    async fn requests(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, board: &Board) -> ConnectionEnd {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let bytes = match from.read(&mut buffer).await {
                Ok(1..) if self.lost_to_server.load(Ordering::SeqCst) => continue,
                Ok(0) => break,
                Ok(count) => &buffer[..count],
                Err(_) => return ConnectionEnd::Close,
            };
            self.remember(bytes);
            let mode = board.state().mode.clone();
            match &mode {
                LinkMode::Slow(by) => tokio::time::sleep(*by).await,
                LinkMode::Ban(words) if self.has_sent(words) => return ConnectionEnd::Close,
                LinkMode::Swallow { to_server: true, .. } => {
                    self.lost_to_server.store(true, Ordering::SeqCst);
                    continue;
                }
                _ => {}
            }
            {
                let trap = &mut board.state().trap;
                if trap.as_ref().is_some_and(|words| contains(bytes, words)) {
                    *trap = None;
                    self.trapped.store(true, Ordering::SeqCst);
                }
            }
            if to.write_all(bytes).await.is_err() {
                // what the server still has to say comes the other way
                return pending().await;
            }
        }
        if !board.state().mode.swallows(Direction::ToServer) {
            let _ = to.shutdown().await;
            // the server may still answer; when it closes too, the other direction ends the connection
            return pending().await;
        }
        ConnectionEnd::Close
    }

    async fn answers(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, board: &Board) -> ConnectionEnd {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await;
            if self.trapped.load(Ordering::SeqCst) {
                return ConnectionEnd::Reset;
            }
            let mode = board.state().mode.clone();
            if mode.swallows(Direction::ToClient) || self.lost_to_client.load(Ordering::SeqCst) {
                self.lost_to_client.store(true, Ordering::SeqCst);
                match read {
                    Ok(1..) => continue,
                    // neither does the client learn that the server has closed
                    Ok(0) | Err(_) => return pending().await,
                }
            }
            let Ok(count @ 1..) = read else { return ConnectionEnd::Close };
            if let LinkMode::Slow(by) = mode {
                tokio::time::sleep(by).await;
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return ConnectionEnd::Close;
            }
        }
    }

    fn remember(&self, bytes: &[u8]) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MEMORY.saturating_sub(sent.len());
        sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Reads until the client closes.
async fn drain(mut from: ReadHalf<'_>) -> ConnectionEnd {
    let mut buffer = vec![0; 1024];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
    ConnectionEnd::Close
}

/// Whether words follow each other in what was sent, by the letter or as arguments of commands.
fn contains(sent: &[u8], words: &str) -> bool {
    let sent = String::from_utf8_lossy(sent).to_uppercase();
    let words = words.to_uppercase();
    let is_frame = |line: &&str| line.starts_with(['*', '$']) && line[1..].parse::<u32>().is_ok();
    let arguments: Vec<&str> = sent.split("\r\n").filter(|line| !is_frame(line)).collect();
    sent.contains(&words) || arguments.join(" ").contains(&words)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn words_are_found_in_frames_and_lines_of_any_case() {
        let framed = b"*1\r\n$4\r\nPING\r\n*3\r\n$6\r\nclient\r\n$8\r\nTracking\r\n$2\r\nON\r\n";
        assert!(contains(framed, "CLIENT TRACKING") && contains(framed, "client tracking on"));
        assert!(contains(b"CLIENT TRACKING ON\r\n", "client tracking"));
        assert!(!contains(framed, "CLIENT ON") && !contains(framed, "CLIENT CACHING"));
        assert!(contains(b"", ""));
    }
}
