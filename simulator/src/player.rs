//! Plays a world.
mod pace;
pub use pace::{NotASpeed, Speed};
