"""Write compiled artifacts with another dbt engine: ``choose_engine.py ARTIFACTS EXECUTABLE > COPY``."""

import json
import sys
from pathlib import Path

artifacts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
config = artifacts["plugins"]["orchestrator"]["config"]
config["dbt"] = {**config.get("dbt", {}), "engine": "v2", "executable": sys.argv[2]}
json.dump(artifacts, sys.stdout, indent=2)
