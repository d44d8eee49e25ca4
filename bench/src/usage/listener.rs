//! Finds the process of this machine that listens at an address, through `/proc`.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The process that listens there; `None` where there is none, or none that we may look at.
pub fn listening_process(address: SocketAddr) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, address))?;
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target.to_str() == Some(&socket))).then_some(pid)
    })
}

/// The socket of the row that listens. An IPv4 address is the same in both tables but for what precedes it in the second.
fn listening_inode(table: &str, address: SocketAddr) -> Option<String> {
    const LISTEN: &str = "0A";
    let IpAddr::V4(ip) = address.ip() else { return None };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), address.port());
    table.lines().skip(1).find_map(|row| {
        let fields: Vec<_> = row.split_ascii_whitespace().collect();
        let [_, listens_at, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
        (*state == LISTEN && listens_at.ends_with(&local)).then(|| (*inode).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_one_who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listening_process(address), Some(std::process::id()));
        drop(listener);
        assert_eq!(listening_process(address), None);
    }

    #[test]
    fn an_ipv4_address_is_also_found_among_ipv6_sockets() {
        let table = "  sl  local_address                         remote_address\n\
             0: 0000000000000000FFFF00000200007F:2352 00000000000000000000000000000000:0000 0A 00000000:00000000 \
             00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n";
        assert_eq!(listening_inode(table, "127.0.0.2:9042".parse().unwrap()), Some("4711".to_owned()));
        assert_eq!(listening_inode(table, "127.0.0.1:9042".parse().unwrap()), None);
    }
}
