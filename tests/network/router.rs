//! A machine that forwards IPv6 packets and still hears the router of its LAN.

use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Lab, wait_until};

/// Sends one router's advertisement by `eth0`: a default route, and a prefix from which hosts make addresses.
pub fn advertise() {
    let index: u32 = std::fs::read_to_string("/sys/class/net/eth0/ifindex").unwrap().trim().parse().unwrap();
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
    // Source: RFC 4861, 4.2 and 4.6.2: hosts take it with the highest hop limit only.
    socket.set_multicast_hops_v6(255).unwrap();
    socket.set_multicast_if_v6(index).unwrap();
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0]);
    message.extend("2001:db8:77::".parse::<Ipv6Addr>().unwrap().octets());
    let all_hosts = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
    socket.send_to(&message, &all_hosts.into()).unwrap();
}

#[test]
fn a_machine_that_begins_to_forward_keeps_the_route_that_its_router_told() {
    let mut lab = Lab::new("router");
    lab.add("router");
    lab.add("node");
    let node = lab.name("node");
    lab.inside("router", &format!("ip link add eth0 type veth peer name eth0 netns {node} && ip link set eth0 up"));
    lab.inside("node", "ip link set eth0 up && ip link add br0 type bridge && ip link set br0 up");
    let settings =
        "cat /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv6/conf/br0/accept_ra /proc/sys/net/ipv6/conf/all/forwarding";
    assert_eq!(lab.inside("node", settings).split_whitespace().collect::<Vec<_>>(), ["1", "1", "0"]);
    let route = || {
        // Until the router is sure of its own address it may not.
        let _ = lab.part("router", "advertise").output().unwrap();
        let routes = lab.inside("node", "ip -6 route show default");
        if routes.contains("dev eth0") { Ok(()) } else { Err(routes) }
    };
    wait_until("a route that the router told", route);

    assert!(lab.part("node", "forward6").status().unwrap().success());
    assert_eq!(lab.inside("node", settings).split_whitespace().collect::<Vec<_>>(), ["2", "1", "1"]);
    assert!(lab.inside("node", "ip -6 route show default").contains("dev eth0"), "it is still there");
    lab.inside("node", "ip -6 route flush default");
    wait_until("the same, told anew", route);
}
