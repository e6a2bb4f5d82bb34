//! Generated streams: shop and nexmark.
