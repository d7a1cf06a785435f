//! The one socket option that no safe wrapper offers: `SO_RCVLOWAT`.
//!
//! This is the only file of the crate that may use `unsafe`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks the kernel to wake a reader of `socket` only when `bytes` bytes wait, or the stream ended.
///
/// The kernel caps the value at half of the receive buffer, and signals at once when the new mark
/// is already reached.
///
/// # Errors
/// What `setsockopt` reports; none is expected on a live TCP socket.
pub(crate) fn set_receive_low_water(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is small");
    #[allow(
        unsafe_code,
        reason = "neither std, socket2 nor rustix offers SO_RCVLOWAT"
    )]
    // SAFETY: the descriptor is open for the length of the borrow, `value` lives across the call,
    // and `length` is its exact size, as setsockopt(2) asks.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_marked_socket_still_reads_what_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        set_receive_low_water(server.as_fd(), 1024).unwrap();
        client.write_all(b"abc").unwrap();
        drop(client);
        let mut got = Vec::new();
        io::Read::read_to_end(&mut &server, &mut got).unwrap();
        assert_eq!(got, b"abc");
    }
}
