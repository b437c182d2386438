// The built-in policies except the default one. The crate of each is in policies/.
["backoff", "expression", "fair"]
