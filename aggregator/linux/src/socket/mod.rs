//! Sockets: TCP and MPTCP connections, listeners, UDP, and what the kernel tells about them.
//!
//! Options that the running kernel may lack (see the table in each function) are asked for and
//! forgotten when refused: a connection that works a little worse beats none.

mod congestion;
mod info;
mod limits;
mod memory;
mod mptcp;
mod original_dst;
mod queue;
mod sys;
mod tcp;
mod udp;

pub use congestion::{choose_congestion, congestion_available};
pub use info::{TcpInfo, TcpState, tcp_info};
pub use limits::raise_nofile_limit;
pub use memory::{SocketMemory, level_receive_buffers, socket_memory, widen_receive_buffer};
pub use mptcp::{
    MptcpInfo, Subflow, mptcp_info, mptcp_info_supported, mptcp_supported, subflow_addresses,
    subflow_infos, subflows,
};
pub use original_dst::original_dst;
pub use queue::{set_send_buffer, unacked_bytes, unsent_bytes};
pub use sys::netns_cookie;
pub use tcp::{ConnectOptions, ListenOptions, StreamOptions, abort, connect, listen, tune};
pub use udp::udp_bind;
