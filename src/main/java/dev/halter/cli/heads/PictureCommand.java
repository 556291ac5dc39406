package dev.halter.cli.heads;

import dev.halter.cli.OptionValue;
import dev.halter.cli.WrongUseException;
import dev.halter.patching.EffectsFile;
import dev.halter.patching.EffectsPicture;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(
    name = "picture",
    description = "Draws effects as a heat map: layers down, heads across, MLPs beside them.")
final class PictureCommand implements Callable<Integer> {
  @Parameters(paramLabel = "EFFECTS", description = "Effects that halter heads patch has written.")
  Path effects;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Picture to write, as .svg, .png or .html by its ending.")
  Path out;

  @Option(
      names = "--value",
      paramLabel = "V",
      defaultValue = "relative",
      description =
          "relative (in %% of the reference's logit) or delta_logit (default: ${DEFAULT-VALUE}).")
  String value;

  @Override
  public Integer call() {
    OptionValue.requireOneOf("--value", value, "relative", "delta_logit");
    if (!out.getFileName().toString().matches(".*\\.(svg|png|html)")) {
      throw new WrongUseException("--out is " + out + ", must end in .svg, .png or .html");
    }
    EffectsPicture.of(
            EffectsFile.read(effects), EffectsPicture.Value.valueOf(value.toUpperCase(Locale.ROOT)))
        .write(out);
    return 0;
  }
}
