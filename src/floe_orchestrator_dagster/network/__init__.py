"""HTTP requests with wall-clock timeouts, proxies of the environment, and errors that name the party at fault."""
