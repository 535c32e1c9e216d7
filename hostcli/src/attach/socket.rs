//! Sockets: what QEMU's `-chardev socket`, a terminal server or a proxy offers.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::source::{Heard, Source, TICK};

/// Longest wait for each of the addresses that a name has.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A host that does not answer for this long is asked, and so often, and then given up.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;

/// Connects to a socket in the file system.
///
/// Without waiting: where as many wait to be accepted as may, that is an error like any other, and asked again later.
pub(super) fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TICK))?;
    Ok(stream)
}

/// Connects to a host; the first of its addresses that answers is taken.
pub(super) fn connect_tcp(name: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in name.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return prepare(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Has the system ask a silent host whether it is still there: a cable that was pulled says nothing.
fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(TICK))?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
    Ok(stream)
}

impl Source for UnixStream {
    fn read(&mut self, buffer: &mut [u8]) -> Heard {
        Heard::of(Read::read(self, buffer))
    }
}

impl Source for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> Heard {
        Heard::of(Read::read(self, buffer))
    }
}
