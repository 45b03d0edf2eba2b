//! An echo server with a few threads: `cargo run -p manyhands-server --example echo -- 127.0.0.1:9000`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use manyhands_os::clock;
use manyhands_os::stream::{self, Peer, SocketAddr};
use manyhands_server::acceptor::{Acceptor, Bell, Door};
use manyhands_server::admission::{Limits, Overflow};
use manyhands_server::crew::Wake;
use manyhands_server::front::{Employer, Front, Task};
use manyhands_server::host::Host;

/// A worker that sleeps, and whether it was woken.
#[derive(Clone)]
struct Sleeper(Thread, Arc<AtomicBool>);

impl Wake for Sleeper {
    fn wake(&self) {
        // pairs with: the swap in `work`
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

/// Starts threads when they are needed.
struct House(Bell, OnceLock<Arc<Service>>);

impl Employer for House {
    fn start_workers(&self, count: usize) {
        for _ in 0..count {
            let service = Arc::clone(self.1.get().expect("the service is there before its first client"));
            thread::spawn(move || service.work());
        }
    }
}

impl Host for House {
    fn accept_again(&self) {
        self.0.ring();
    }

    fn drained(&self) {}
}

struct Service(Front<OwnedFd, Sleeper, House>);

impl Door for Service {
    fn may_accept(&self) -> bool {
        self.0.may_accept()
    }

    fn load(&self) -> Option<usize> {
        None
    }

    fn admit(&self, connection: OwnedFd, _peer: Peer) {
        // A connection that does not fit is closed.
        _ = self.0.offer(connection);
    }

    fn has_queue(&self) -> bool {
        self.0.has_queue()
    }

    fn look_for_a_stall(&self) {
        self.0.look_for_a_stall();
    }

    fn trouble(&self, error: &io::Error, for_good: bool) {
        let until = if for_good { "for good" } else { "for a while" };
        println_to_stderr(&format!("cannot accept {until}: {error}"));
    }
}

fn println_to_stderr(text: &str) {
    use std::io::Write;
    _ = writeln!(io::stderr(), "{text}");
}

impl Service {
    fn work(&self) {
        let me = Sleeper(thread::current(), Arc::default());
        let mut came = true;
        loop {
            match self.0.take(|| me.clone(), came) {
                Task::Serve(connection) => {
                    came = false;
                    let began = clock::now();
                    self.echo(&connection);
                    drop(connection);
                    self.0.leave(clock::now() - began);
                }
                Task::Leave => return,
                Task::Sleep => {
                    // pairs with: Sleeper::wake
                    while !me.1.swap(false, Ordering::Acquire) {
                        thread::park();
                    }
                    came = true;
                }
            }
        }
    }

    /// Sends back what comes, until the client has nothing more to say, or has gone.
    fn echo(&self, connection: &OwnedFd) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.0.wait_begins();
            let received = stream::receive_waiting(connection, &mut buffer, 0);
            self.0.wait_ends();
            let Ok(received @ 1..) = received else { return };
            if stream::send(connection, &buffer[..received], 0).is_err() {
                return;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let (listener, address) = stream::listen(address)?;
    println_to_stderr(&format!("echo at {address}"));
    let bell = Bell::new()?;
    let limits = Limits { connections: 4096, active: 256, queued: 1024, overflow: Overflow::Wait };
    let service = Arc::new(Service(Front::new(limits, 256, House(bell.clone(), OnceLock::new()))));
    _ = service.0.host().1.set(Arc::clone(&service));
    let _acceptor = Acceptor::start(listener, bell, service)?;
    loop {
        thread::park();
    }
}
