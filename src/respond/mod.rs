//! Response: from an Incident to what is done about it.
