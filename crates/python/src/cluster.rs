//! Clusters: producers of tasks, whose answers become the results of futures, and workers.

mod client;
mod visit;
mod worker;

use pyo3::prelude::*;

/// Adds the classes.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<client::ClusterClient>()?;
    module.add_class::<visit::ClusterVisit>()?;
    module.add_class::<visit::BrokerGreeting>()?;
    module.add_class::<visit::DeadLetter>()?;
    module.add_class::<worker::ClusterWorker>()
}
