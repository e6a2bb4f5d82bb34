//! Epochs made durable: manifest, segments, recovery.
