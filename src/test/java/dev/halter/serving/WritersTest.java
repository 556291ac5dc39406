package dev.halter.serving;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class WritersTest {
  @Test
  void whoReadsNothingIsLeftAndTheOthersAreNot() throws Exception {
    try (ServerSocketChannel server =
            ServerSocketChannel.open()
                .bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
        SocketChannel unread = SocketChannel.open(server.getLocalAddress());
        SocketChannel accepted = server.accept();
        Writers writers = new Writers(Duration.ofMillis(100))) {
      OutputStream out = Channels.newOutputStream(accepted);
      writers.run(() -> out.write(1));
      assertThrows(
          IOException.class,
          () -> {
            while (true) {
              writers.run(() -> out.write(new byte[1 << 20]));
            }
          });
      assertFalse(accepted.isOpen());
      assertTrue(unread.isOpen(), "it is not the client that ended it");
      Thread.interrupted();
      writers.run(() -> {}); // and the thread writes on, elsewhere
    }
  }
}
