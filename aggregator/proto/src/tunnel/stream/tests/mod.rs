//! Two ends and a network that does everything wrong.

mod cases;
mod model;
mod world;
