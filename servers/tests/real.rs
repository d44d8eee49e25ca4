//! Real servers: started, hurt, ended. Each test has a place of its own, so that they run side by side.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tallyman_servers::{Place, Set, Shape, Up, status};

/// A place in a folder of the test's own.
fn place(folder: &tempfile::TempDir, third_byte: u8) -> Place {
    Place { folder: folder.path().join("servers"), first_address: [127, 0, third_byte, 1].into() }
}

fn memcached_only(servers: u16) -> Shape {
    Shape { nodes: 0, memcached: servers, ..Shape::default() }
}

/// What a memcached server answers to a command, up to `end`.
fn ask(address: SocketAddr, command: &str, end: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        answer.push(char::from(byte[0]));
    }
    answer
}

fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
#[ignore = "installs and starts memcached: cargo xtask test"]
fn memcached_servers_are_flushed_killed_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut set = Set::start(&place(&folder, 11), &memcached_only(2)).unwrap();
    let (first, second) = (set.memcached()[0].address, set.memcached()[1].address);
    for address in [first, second] {
        assert_eq!(ask(address, "set k 0 0 1\r\nv\r\n", "\n"), "STORED\r\n");
    }
    set.flush_memcached(0).unwrap();
    assert_eq!(ask(first, "get k\r\n", "END\r\n"), "END\r\n");
    assert_eq!(ask(second, "get k\r\n", "END\r\n"), "VALUE k 0 1\r\nv\r\nEND\r\n");
    set.kill_memcached(1).unwrap();
    assert!(!is_open(second));
    set.restart_memcached(1).unwrap();
    assert_eq!(ask(second, "get k\r\n", "END\r\n"), "END\r\n");
    drop(set);
    assert!(!is_open(first) && !is_open(second));
    assert!(!folder.path().join("servers").exists());
}

#[test]
#[ignore = "installs and starts memcached: cargo xtask test"]
fn servers_that_are_up_stay_until_down_and_are_not_started_twice() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 12);
    let address: SocketAddr = (place.first_address, 11311).into();
    assert_eq!(Set::up(&place, &memcached_only(1)).unwrap(), Up::Started);
    assert!(is_open(address));
    let before = status(&place).unwrap();
    assert_eq!(Set::up(&place, &memcached_only(1)).unwrap(), Up::RanAlready);
    assert_eq!(status(&place).unwrap(), before);
    let refused = Set::up(&place, &memcached_only(2)).unwrap_err().to_string();
    assert!(refused.contains("other servers run already") && refused.contains("servers down"), "{refused}");
    assert_eq!(status(&place).unwrap(), before);
    assert!(Set::down(&place).unwrap());
    assert!(!is_open(address));
    assert!(!Set::down(&place).unwrap());
}

#[test]
#[ignore = "installs and starts memcached: cargo xtask test"]
fn what_an_earlier_run_left_behind_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 13);
    let address: SocketAddr = (place.first_address, 11311).into();
    Set::up(&place, &memcached_only(1)).unwrap();
    assert_eq!(ask(address, "set k 0 0 1\r\nv\r\n", "\n"), "STORED\r\n");
    let set = Set::start(&place, &memcached_only(1)).unwrap();
    assert_eq!(ask(address, "get k\r\n", "END\r\n"), "END\r\n");
    drop(set);
    assert!(!is_open(address));
}

#[test]
#[ignore = "installs and starts Cassandra: cargo xtask test"]
fn a_node_that_cannot_start_tells_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut set = Set::start(&place(&folder, 14), &Shape::default()).unwrap();
    set.kill_node(0).unwrap();
    let yaml = set.node_log(0).with_file_name("cassandra.yaml");
    std::fs::write(&yaml, "no_such_setting: 1\n").unwrap();
    let error = set.restart_node(0).unwrap_err().to_string();
    assert!(error.contains("ended while it started") && error.contains("no_such_setting"), "{error}");
}

#[test]
#[ignore = "installs and starts Cassandra: cargo xtask test"]
fn nodes_of_two_datacenters_with_passwords_and_tls_come_up_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { nodes: 1, datacenters: 2, auth: true, tls: true, ..Shape::default() };
    // That it starts at all says that each node lets the superuser in and sees the other one up.
    let mut set = Set::start(&place(&folder, 15), &shape).unwrap();
    assert_eq!(set.contact_points(), "127.0.15.1:9042,127.0.15.2:9042");
    let datacenters: Vec<&str> = set.nodes().iter().map(|node| node.datacenter.as_str()).collect();
    assert_eq!(datacenters, ["dc1", "dc2"]);
    assert!(std::fs::read_to_string(set.ca_file().unwrap()).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    set.kill_node(0).unwrap();
    assert!(!set.nodes()[0].process.is_alive());
    // Logins have a replica on every node, so the other one goes on alone.
    set.wait_until_up(1).unwrap();
    set.restart_node(0).unwrap();
    set.pause_node(1).unwrap();
    set.resume_node(1).unwrap();
    set.wait_until_up(1).unwrap();
}
