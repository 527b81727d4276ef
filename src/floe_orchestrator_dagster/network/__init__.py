"""HTTP requests that end in time: proxies of the environment, TLS, and failures that name the party at fault."""
