package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

class RoundsTest {
  /** Something that slot {@code slot} does as its {@code at}-th. */
  private record Item(int slot, int at, String kind) {}

  private static List<List<Item>> rounds(String... slots) {
    List<List<Item>> items = new ArrayList<>();
    for (int slot = 0; slot < slots.length; slot++) {
      List<Item> own = new ArrayList<>();
      for (String kind : slots[slot].split("")) {
        if (!kind.isEmpty()) {
          own.add(new Item(slot, own.size(), kind));
        }
      }
      items.add(own);
    }
    return Rounds.of(items, Item::kind);
  }

  private static String kinds(List<List<Item>> rounds) {
    return String.join("", rounds.stream().map(round -> round.getFirst().kind).toList());
  }

  @Test
  void slotsShareRoundsWhereTheirOrdersAgree() {
    assertEquals("", kinds(rounds()));
    assertEquals("", kinds(rounds("", "")));
    assertEquals("ab", kinds(rounds("b", "ab", "a")));
    assertEquals("abc", kinds(rounds("c", "bc", "ab")));
  }

  @Test
  void contradictingOrdersTakeOneRoundMore() {
    assertEquals("aba", kinds(rounds("ab", "ba")));
    assertEquals("bab", kinds(rounds("b", "ba", "ab")));
  }

  @Test
  void eachSlotKeepsItsOrder() {
    Random random = new Random(1);
    for (int trial = 0; trial < 300; trial++) {
      String[] slots = new String[1 + random.nextInt(5)];
      int count = 0;
      for (int slot = 0; slot < slots.length; slot++) {
        StringBuilder own = new StringBuilder();
        int length = random.nextInt(6);
        for (int i = 0; i < length; i++) {
          own.append((char) ('a' + random.nextInt(3)));
        }
        slots[slot] = own.toString();
        count += length;
      }
      Map<Integer, Integer> next = new HashMap<>();
      for (List<Item> round : rounds(slots)) {
        for (Item item : round) {
          assertEquals(next.getOrDefault(item.slot, 0), item.at, String.join(",", slots));
          next.put(item.slot, item.at + 1);
          assertEquals(round.getFirst().kind, item.kind);
          count--;
        }
        assertTrue(round.stream().map(Item::slot).distinct().count() == round.size());
      }
      assertEquals(0, count);
    }
  }
}
