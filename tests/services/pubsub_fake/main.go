// Google's own fake of Pub/Sub as a server. It prints two addresses, the API's and that of a page with all
// messages as JSON, and runs until its standard input is closed.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	server := pstest.NewServer()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(server.Messages())
	}))
	fmt.Println(server.Addr, listener.Addr())
	io.Copy(io.Discard, os.Stdin)
}
