//! Futures of one kind for the runtime.

use std::pin::Pin;

/// Boxes a future that is to be spawned. The runtime's code for a task is then there once, and not
/// once for each kind of task and of scheduler: a tenth of a router's binary, for an allocation.
pub fn boxed<T>(
    future: impl Future<Output = T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(future)
}
