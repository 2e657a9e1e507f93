//! The HTTP client that federation uses.
