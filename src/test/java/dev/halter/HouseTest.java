package dev.halter;

import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.tngtech.archunit.core.domain.Dependency;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.JavaModifier;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.lang.ArchCondition;
import com.tngtech.archunit.lang.ConditionEvents;
import com.tngtech.archunit.lang.SimpleConditionEvent;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The order of the packages, and who may know whom. */
class HouseTest {
  private static final String ROOT = "dev.halter.";

  /** Each room uses only those before it. */
  private static final List<String> ROOMS =
      List.of(
          "files",
          "device",
          "pictures",
          "weights",
          "text",
          "sparse",
          "model",
          "gradients",
          "steering",
          "generation",
          "scoring",
          "neurons",
          "patching",
          "heads",
          "concepts",
          "tuning",
          "evaluation",
          "serving",
          "cli");

  private static final JavaClasses MAIN =
      new ClassFileImporter()
          .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
          .importPackages("dev.halter");

  @Test
  void everyPackageIsARoomOfTheOrder() {
    Set<String> rooms = MAIN.stream().map(HouseTest::room).collect(Collectors.toSet());
    assertEquals(Set.copyOf(ROOMS), rooms);
  }

  @Test
  void aRoomUsesOnlyThoseBeforeIt() {
    classes().should(useOnlyEarlierRooms()).check(MAIN);
  }

  @Test
  void theRuleOfOrderCanFail() {
    JavaClass upside = MAIN.get(ROOT + "cli.Halter");
    assertTrue(
        upside.getDirectDependenciesFromSelf().stream()
            .anyMatch(use -> isOurs(use.getTargetClass()) && rank(use.getTargetClass()) == 0),
        "the command line writes files");
    assertTrue(rank(upside) > rank(MAIN.get(ROOT + "files.Json")));
  }

  @Test
  void onlyTheCudaDeviceKnowsJcuda() {
    noClasses()
        .that()
        .resideOutsideOfPackage(ROOT + "device.cuda..")
        .should()
        .dependOnClassesThat()
        .resideInAPackage("jcuda..")
        .check(MAIN);
  }

  /**
   * A release's runtime is half as large without AWT, and small containers have no fonts for it.
   */
  @Test
  void nothingNeedsAwt() {
    noClasses().should().dependOnClassesThat().resideInAPackage("java.awt..").check(MAIN);
  }

  @Test
  void theDevicesDoNotKnowEachOther() {
    noClasses()
        .that()
        .resideInAPackage(ROOT + "device.cpu..")
        .should()
        .dependOnClassesThat()
        .resideInAPackage(ROOT + "device.cuda..")
        .check(MAIN);
  }

  @Test
  void roomsOfTheCommandLineDoNotKnowEachOther() {
    for (String room : List.of("neurons", "heads", "concepts")) {
      noClasses()
          .that()
          .resideInAPackage(ROOT + "cli." + room)
          .should()
          .dependOnClassesThat(
              resideInAnyPackage(
                  Stream.of("neurons", "heads", "concepts")
                      .filter(other -> !other.equals(room))
                      .map(other -> ROOT + "cli." + other)
                      .toArray(String[]::new)))
          .check(MAIN);
    }
  }

  @Test
  void noTwoClassesHaveOneName() {
    Map<String, List<String>> names =
        MAIN.stream()
            .filter(JavaClass::isTopLevelClass)
            .filter(type -> !type.getSimpleName().equals("package-info"))
            .collect(
                Collectors.groupingBy(
                    JavaClass::getSimpleName,
                    Collectors.mapping(JavaClass::getName, Collectors.toList())));
    names.values().removeIf(types -> types.size() == 1);
    assertEquals(Map.of(), names);
  }

  /**
   * What only its own package uses is not public. Java users reach the packages from {@code
   * weights} up to {@code evaluation} as we do ourselves, so what they see is what some other room
   * needs.
   */
  @Test
  void noClassIsPublicWithoutNeed() {
    List<String> needless =
        MAIN.stream()
            .filter(
                type -> type.isTopLevelClass() && type.getModifiers().contains(JavaModifier.PUBLIC))
            .filter(
                type ->
                    Stream.concat(
                            Stream.of(type), MAIN.stream().filter(inner -> isInside(inner, type)))
                        .flatMap(part -> part.getDirectDependenciesToSelf().stream())
                        .map(Dependency::getOriginClass)
                        .allMatch(user -> user.getPackageName().equals(type.getPackageName())))
            .map(JavaClass::getName)
            .sorted(Comparator.naturalOrder())
            .toList();
    assertEquals(
        List.of(
            ROOT + "cli.Halter", // what java starts
            ROOT + "cli.SparkJobOptions", // halter-spark's job has them too
            ROOT + "cli.SparkModelOptions", // likewise
            ROOT + "device.Profile", // read by the benchmark of single kernels
            ROOT + "device.ProfiledDevice", // likewise
            ROOT + "device.cpu.CpuDevice", // opened by name, as CudaDevice
            ROOT + "device.cpu.Schedule", // tests of every kernel choose one
            ROOT + "device.cuda.CudaDevice",
            ROOT + "text.jinja.TemplateException", // thrown out of its room
            ROOT + "weights.Rope"), // what a test computes attention's angles from
        needless,
        "public, but used by its package alone");
  }

  private static boolean isInside(JavaClass inner, JavaClass outer) {
    return inner.getName().startsWith(outer.getName() + "$");
  }

  private static ArchCondition<JavaClass> useOnlyEarlierRooms() {
    return new ArchCondition<>("use only rooms before their own") {
      @Override
      public void check(JavaClass type, ConditionEvents events) {
        for (Dependency use : type.getDirectDependenciesFromSelf()) {
          JavaClass used = use.getTargetClass().getBaseComponentType();
          if (isOurs(used) && rank(used) > rank(type)) {
            events.add(SimpleConditionEvent.violated(type, use.getDescription()));
          }
        }
      }
    };
  }

  private static boolean isOurs(JavaClass type) {
    return type.getPackageName().startsWith(ROOT);
  }

  private static String room(JavaClass type) {
    return Arrays.asList(type.getPackageName().substring(ROOT.length()).split("\\.")).getFirst();
  }

  private static int rank(JavaClass type) {
    return ROOMS.indexOf(room(type));
  }
}
