//! Two ends and a network that does everything wrong.

mod cases;
mod model;
mod wakeups;
mod world;
