package dev.halter.model;

/** What kernels of decode steps ask ahead, changed while a model is loaded. */
public final class PrefetchSetting {
  private PrefetchSetting() {}

  /** Sets it from the next step on, to a value of {@code -Dhalter.prefetch}. */
  public static void take(Llama model, String value) {
    model.take(
        Prefetch.of(model.device(), model.weights(), model.config().nLayers(), value));
  }
}
