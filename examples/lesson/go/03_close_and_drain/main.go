// Close and drain: the values sent before the close still arrive.
package main

import (
	"fmt"
	"strings"
	"sync"
)

func main() {
	words := make(chan string, 4)

	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for _, word := range []string{"first", "second", "third"} {
			words <- word
		}
		close(words)
	}()
	writer.Wait()

	fmt.Println("received:", <-words)
	var drained []string
	for n := len(words); n > 0; n-- {
		drained = append(drained, <-words)
	}
	fmt.Println("drained:", strings.Join(drained, " "))
	if _, ok := <-words; !ok {
		fmt.Println("closed")
	}
}
