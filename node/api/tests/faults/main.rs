//! The client against nodes that misbehave: real sockets with mutual TLS, and servers of the generated traits that lose
//! connections, answers and leaders on purpose.

mod calls;
mod certificates;
mod feed;
mod gateway;
mod gateway_node;
mod node;
mod renewal;
