// Broken: nobody closes the client's channel, so the client's write pump waits forever.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
)

func writePump(send <-chan string) {
	for message := range send {
		fmt.Println("writes", message)
	}
}

func serveClient() {
	send := make(chan string)
	go writePump(send)
	send <- "hello" // then the client leaves, but nobody closes send
}

func main() {
	serveClient()
	runtime.Gosched() // lets the pump write, and then wait for the next message
	pprof.Lookup("goroutineleak").WriteTo(os.Stdout, 1)
}
