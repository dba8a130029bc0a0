module golden.example/tls

go 1.26
