package dev.halter.cli;

import dev.halter.files.Json;
import picocli.CommandLine.Option;

/** How a command prints its result: for people, or as one JSON document. */
public final class OutputOptions {
  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  public boolean isJson() {
    return json;
  }

  /** Prints a document on standard output, as one line. */
  public void print(Object document) {
    System.out.println(Json.text(document));
  }
}
