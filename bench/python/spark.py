"""Spark on this machine, for bench/spark and bench/scale: dev.halter.spark.SparkFigures of src/spark's tests."""

import json
import os
import subprocess

from turns import ROOT

MODULE = ROOT / "src/spark"


def build():
    """Puts Halter into Maven's repository and builds src/spark against it, without its tests."""
    mvn = ["mvn", "-q", "-B", "-ntp"]
    subprocess.run([*mvn, "-DskipTests", "-Dspotless.check.skip", "install"], cwd=ROOT, check=True)
    subprocess.run(
        [*mvn, "-DskipTests", "package", "dependency:build-classpath", "-Dmdep.outputFile=target/class-path"],
        cwd=MODULE, check=True)


def lines(folder, rows):
    """A file of as many lines of halter batch, with two prompts and a hundred plans."""
    file = folder / "rows.jsonl"
    with open(file, "w") as out:
        for i in range(rows):
            clamp = {"op": "neuron_clamp", "site": "blocks.1.mlp.hook_pre_linear", "neurons": [i * 7 % 100], "value": -20}
            line = {"id": i, "prompt": "The dog" if i % 3 == 0 else "The cat", "plan": {"interventions": [clamp]}}
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
    return file


def java():
    home = subprocess.run([ROOT / "tools/jdk"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return f"{home}/bin/java"


def figures(file, executors, tokens, threads, *runs):
    """Answers of SparkFigures, one for each run."""
    classes = (MODULE / "target/class-path").read_text().strip()
    command = [
        java(), "-Xmx1g", "--enable-native-access=ALL-UNNAMED", f"-Dmodel={ROOT / 'src/main/models/demo'}",
        f"-Dhalter.cache={MODULE / 'target/cache'}", "-cp",
        f"{MODULE / 'target/test-classes'}:{MODULE / 'target/classes'}:{classes}", "dev.halter.spark.SparkFigures",
        file, executors, tokens, threads, *runs]
    environment = os.environ | {"SPARK_HOME": str(MODULE / "target/spark-home"), "SPARK_SCALA_VERSION": "2.13"}
    out = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]
