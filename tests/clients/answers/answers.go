// As answers.py, with Go's net/http over either version of HTTP.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

type request struct {
	Method        string
	Path          string
	Headers       map[string]string
	Authenticated bool
	Size          int
	Expected      int
}

func client(roots *x509.CertPool, http2, keep bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: http2,
		DisableKeepAlives: !keep,
	}
	if !http2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport}
}

func main() {
	base, authority, credentials, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(authority)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	user, password, _ := strings.Cut(credentials, ":")
	lines, err := os.Open(file)
	if err != nil {
		panic(err)
	}
	clients := map[string]*http.Client{}
	for _, http2 := range []bool{false, true} {
		for _, keep := range []bool{false, true} {
			clients[fmt.Sprintf("http2=%v keep=%v", http2, keep)] = client(roots, http2, keep)
		}
	}
	answered := 0
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		var r request
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			panic(err)
		}
		for name, client := range clients {
			for _, chunked := range []bool{false, true} {
				var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("x"), r.Size))
				if chunked {
					body = io.MultiReader(body)
				}
				sent, err := http.NewRequest(r.Method, base+r.Path, body)
				if err != nil {
					panic(err)
				}
				for key, value := range r.Headers {
					sent.Header.Set(key, value)
				}
				if r.Authenticated {
					sent.SetBasicAuth(user, password)
				}
				response, err := client.Do(sent)
				if err != nil {
					fmt.Println("lost:", name, "chunked:", chunked, scanner.Text(), err)
					continue
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode == r.Expected {
					answered++
				} else {
					fmt.Println("lost:", name, "chunked:", chunked, scanner.Text(), response.StatusCode)
				}
			}
		}
	}
	fmt.Println("answered:", answered)
}
