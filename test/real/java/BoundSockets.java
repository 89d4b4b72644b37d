import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.nio.channels.SocketChannel;
import javax.net.SocketFactory;

/**
 * Hadoop's RPC sockets, bound to the address in `tailrace.bind`. A NameNode knows a DataNode by where its connection comes
 * from: several on one machine look like several machines only so.
 */
public class BoundSockets extends SocketFactory {
  private static final String ADDRESS = System.getProperty("tailrace.bind");

  @Override
  public Socket createSocket() throws IOException {
    SocketChannel channel = SocketChannel.open();
    if (ADDRESS != null) channel.bind(new InetSocketAddress(ADDRESS, 0));
    return channel.socket();
  }

  private Socket connect(SocketAddress address) throws IOException {
    Socket socket = createSocket();
    socket.connect(address);
    return socket;
  }

  @Override
  public Socket createSocket(String host, int port) throws IOException {
    return connect(new InetSocketAddress(host, port));
  }

  @Override
  public Socket createSocket(InetAddress host, int port) throws IOException {
    return connect(new InetSocketAddress(host, port));
  }

  @Override
  public Socket createSocket(String host, int port, InetAddress localHost, int localPort) throws IOException {
    return createSocket(host, port);
  }

  @Override
  public Socket createSocket(InetAddress host, int port, InetAddress localHost, int localPort) throws IOException {
    return createSocket(host, port);
  }

  // Hadoop keeps connections by the factory that made them.
  @Override
  public boolean equals(Object other) {
    return other instanceof BoundSockets;
  }

  @Override
  public int hashCode() {
    return 47;
  }
}
