"""Published state of a product and environment: manifest, run results and fingerprints, in a directory or object store.

    <url>/<product>/<environment>/latest.json                   the name of the newest complete set
    <url>/<product>/<environment>/sets/<time>-<id>/state.json   facts, fingerprints, digests of the other files
                                                   manifest.json, run_results.json

A set is written under a name of its own, and ``latest.json`` afterwards. Therefore a reader finds a complete set or the
one before it. Old sets are removed after that.
"""
