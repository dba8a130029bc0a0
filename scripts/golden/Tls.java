/** Plays the server or the client of golden captures with Java's own TLS. */
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

class Tls {
  static final char[] PASSWORD = "golden".toCharArray();

  /** Of keys in PKCS #12, `-` where nothing is to be shown, and the authority to trust, in PEM. */
  static SSLContext context(String keys, String trusted) throws Exception {
    KeyManagerFactory shown = KeyManagerFactory.getInstance("SunX509");
    KeyStore held = empty();
    if (!keys.equals("-")) held.load(new FileInputStream(keys), PASSWORD);
    shown.init(held, PASSWORD);
    KeyStore authorities = empty();
    CertificateFactory certificates = CertificateFactory.getInstance("X.509");
    authorities.setCertificateEntry(
        "authority", certificates.generateCertificate(new FileInputStream(trusted)));
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(authorities);
    SSLContext made = SSLContext.getInstance("TLSv1.3");
    made.init(shown.getKeyManagers(), trust.getTrustManagers(), null);
    return made;
  }

  static KeyStore empty() throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, PASSWORD);
    return store;
  }

  /** Over SSLServerSocket: `answer` to each line; `close` once one was read. */
  static void serveSockets(SSLContext context, int port, List<String> words) throws Exception {
    InetAddress loopback = InetAddress.getByName("127.0.0.1");
    SSLServerSocket listener =
        (SSLServerSocket) context.getServerSocketFactory().createServerSocket(port, 8, loopback);
    listener.setNeedClientAuth(words.contains("demand"));
    if (words.contains("ask")) listener.setWantClientAuth(true);
    while (true) {
      try (SSLSocket socket = (SSLSocket) listener.accept()) {
        byte[] line = new byte[1024];
        while (socket.getInputStream().read(line) > 0 && !words.contains("close")) {
          socket.getOutputStream().write("olleh\n".getBytes());
        }
      } catch (Exception error) {
        System.out.println(error);
      }
    }
  }

  /** Over SSLEngine, as the HTTP server of the JDK does. */
  static void serveHttp(SSLContext context, int port, List<String> words) throws Exception {
    HttpsServer server = HttpsServer.create(new InetSocketAddress("127.0.0.1", port), 8);
    server.setHttpsConfigurator(
        new HttpsConfigurator(context) {
          public void configure(HttpsParameters parameters) {
            SSLParameters made = context.getDefaultSSLParameters();
            made.setNeedClientAuth(words.contains("demand"));
            if (words.contains("ask")) made.setWantClientAuth(true);
            parameters.setSSLParameters(made);
          }
        });
    server.createContext(
        "/",
        exchange -> {
          exchange.sendResponseHeaders(200, 5);
          exchange.getResponseBody().write("olleh".getBytes());
          exchange.close();
        });
    server.start();
  }

  static void speak(SSLContext context, int port) throws Exception {
    try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket()) {
      socket.connect(new InetSocketAddress("127.0.0.1", port));
      socket.startHandshake();
      System.out.println(socket.getSession().getProtocol());
      socket.getOutputStream().write("hello\n".getBytes());
      byte[] line = new byte[1024];
      int length = socket.getInputStream().read(line);
      System.out.println("answer: " + (length < 0 ? "none" : new String(line, 0, length)));
    }
  }

  /** Over SSLEngine, as the HTTP client of the JDK does. */
  static void ask(SSLContext context, int port) throws Exception {
    HttpClient client =
        HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_1_1).build();
    HttpRequest request = HttpRequest.newBuilder(URI.create("https://127.0.0.1:" + port)).build();
    HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println("answer: " + response.body());
  }

  public static void main(String[] words) throws Exception {
    SSLContext context = context(words[2], words[3]);
    int port = Integer.parseInt(words[1]);
    List<String> more = Arrays.asList(words).subList(4, words.length);
    switch (words[0]) {
      case "serve-sockets" -> serveSockets(context, port, more);
      case "serve-http" -> serveHttp(context, port, more);
      case "speak" -> speak(context, port);
      default -> ask(context, port);
    }
  }
}
