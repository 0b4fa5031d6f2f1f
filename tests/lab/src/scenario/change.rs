//! Changes to a link while it runs, from a scenario's events or the command line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::emulator::{QueueLimit, Shape};
use crate::units::{Fraction, Rate, UnitError, optional_duration, parse_bytes, parse_duration};

/// Changes to a [`Shape`]: what is left out stays.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapeChange {
    /// New rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// New one-way delay.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// New jitter.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// New loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Fraction>,
    /// New bound of the queue, as a time.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub queue: Option<Duration>,
    /// New bound of the queue in bytes; goes before `queue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u64>,
    /// New probability of doubling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Fraction>,
    /// New probability of being held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Fraction>,
}

impl ShapeChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The shape after the change.
    #[must_use]
    pub fn apply(&self, mut shape: Shape) -> Shape {
        shape.rate = self.rate.or(shape.rate);
        shape.delay = self.delay.unwrap_or(shape.delay);
        shape.jitter = self.jitter.unwrap_or(shape.jitter);
        shape.loss = self.loss.unwrap_or(shape.loss);
        shape.queue = self.queue.map_or(shape.queue, QueueLimit::Time);
        shape.queue = self.queue_bytes.map_or(shape.queue, QueueLimit::Bytes);
        shape.duplicate = self.duplicate.unwrap_or(shape.duplicate);
        shape.reorder = self.reorder.unwrap_or(shape.reorder);
        shape
    }

    /// Takes one `key=value` of the command line.
    ///
    /// # Errors
    /// When the key is unknown or the value is not of its kind.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ChangeError> {
        match key {
            "rate" => self.rate = Some(value.parse()?),
            "delay" => self.delay = Some(parse_duration(value)?),
            "jitter" => self.jitter = Some(parse_duration(value)?),
            "loss" => self.loss = Some(value.parse()?),
            "duplicate" => self.duplicate = Some(value.parse()?),
            "reorder" => self.reorder = Some(value.parse()?),
            "queue" => match parse_duration(value) {
                Ok(time) => self.queue = Some(time),
                Err(_) => self.queue_bytes = Some(parse_bytes(value)?),
            },
            _ => return Err(ChangeError::Key(key.into())),
        }
        Ok(())
    }
}

/// A `key=value` that says nothing about a link.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Unknown key.
    #[error("{0:?} is none of rate, delay, jitter, loss, queue, duplicate, reorder")]
    Key(String),
    /// Wrong value.
    #[error(transparent)]
    Value(#[from] UnitError),
}
